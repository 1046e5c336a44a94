"""`loop.submit` and its like: operations from coroutines, one or many or one after the other.

Drain is refused here: it waits for everything before it, and the loop's own polls never end.
"""

from collections.abc import Coroutine, Iterable
from typing import Any, Literal, overload

from .hooks import PrivateLoop
from .operations import Chain, Group, Multishot, MultishotIterator, Operation, Results, read_at
from .ring import Descriptor, Dispatcher, LoopRing, Opcode, SqeFlag

_LINKS = SqeFlag.IO_LINK | SqeFlag.IO_HARDLINK | SqeFlag.CQE_SKIP_SUCCESS


class Submitting(PrivateLoop):
    """The loop's methods for operations."""

    _dispatcher: Dispatcher
    _ring: LoopRing

    def has_budget(self) -> bool:
        """Whether the callback that runs may do one more thing at once: the scheduler says."""
        raise NotImplementedError

    @property
    def ring(self) -> LoopRing:
        """The ring, for what is registered with it; another one after the loop has changed threads."""
        return self._ring

    @property
    def opcodes(self) -> frozenset[Opcode]:
        """The operations that the kernel has."""
        return self._ring.features.opcodes

    async def submit(self, operation: Operation) -> Any:
        """Run one operation on the ring and return its result.

        Without suspending if the kernel can do it at once and nobody else is ready; what many ready tasks submit goes
        to the kernel together.

        Raises:
            OSError: what the kernel answered, with the filename if there is one.
            RuntimeError: the loop is closed.
            ValueError: the operation is to be linked, drained or silent.
            asyncio.CancelledError: after the kernel is done with the operation's memory.
        """
        self._check_closed()
        if operation.modifiers:
            _check_modifiers(operation)
        dispatcher = self._dispatcher
        at_once = operation.may_end_at_once and not self._ready and self.has_budget()
        if at_once and operation.run_at_once(dispatcher):
            return operation.outcome()
        return await operation.run(self, dispatcher)

    def read_at(self, file: int | Descriptor, buffer: Any, offset: int) -> Coroutine[Any, Any, int]:
        """pread(2) into a writable buffer, in the ring; returns the number of bytes; cheaper than `submit`.

        Raises:
            OSError: as from pread(2).
            RuntimeError: the loop is closed.
            asyncio.CancelledError: after the kernel is done with the buffer.
        """
        return read_at(self, self._dispatcher, file, buffer, offset)

    @overload
    async def submit_many(
        self, operations: Iterable[Operation], *, return_exceptions: Literal[False] = False
    ) -> list[Any]: ...

    @overload
    async def submit_many(
        self, operations: Iterable[Operation], *, return_exceptions: bool
    ) -> list[Any | BaseException]: ...

    async def submit_many(self, operations: Iterable[Operation], *, return_exceptions: bool = False) -> list[Any]:
        """Run operations side by side, all submitted together; returns their results in the same order.

        All of them run to their end, also if one fails.

        Args:
            operations: none of them submitted yet.
            return_exceptions: as of `asyncio.gather`, an exception takes the place of the result.

        Raises:
            OSError: the first failure in the order given, unless return_exceptions; what the others gave is disposed
                of then, descriptors closed.
            ValueError: as of `submit`, or an operation is there twice.
            asyncio.CancelledError: after the kernel is done with the memory of all of them.
        """
        self._check_closed()
        operations = list(operations)
        for operation in operations:
            _check_modifiers(operation)
        group = Group(operations)
        await group.run(self, self._dispatcher)
        return group.outcomes() if return_exceptions else group.results()

    async def submit_chain(self, chain: Chain | Iterable[Operation]) -> list[Any]:
        """Run operations one after the other, in the kernel; returns their results in the same order.

        Args:
            chain: operations, each of which begins when the one before has ended well, or a `Chain`, which knows hard
                links, timeouts and parts that skip success.

        Raises:
            ChainError: a part failed; says which, what was cancelled, and the results of all.
            ValueError: the chain is empty, longer than the submission queue, or a part is to be drained.
            asyncio.CancelledError: after the kernel is done with the memory of all parts.
        """
        self._check_closed()
        if not isinstance(chain, Chain):
            chain = Chain(chain)
        for operation in chain.operations:
            _check_modifiers(operation)
        await chain.run(self, self._dispatcher)
        return chain.results()

    def submit_multishot(self, operation: Multishot) -> MultishotIterator[Any]:
        """Arm an operation once for many results: `async for fd in loop.submit_multishot(Accept(listener))`.

        The kernel may end it at any time; then it is armed again, until its end (of a stream, of a timeout's count), an
        error, or the end of the iterator: see `MultishotIterator`.

        Raises:
            TypeError: the operation has no multishot form.
        """
        self._check_closed()
        if not isinstance(operation, Multishot):
            raise TypeError(f"{type(operation).__name__} has no multishot form")
        _check_modifiers(operation)
        return MultishotIterator(self, Results(operation, self._dispatcher))


def _check_modifiers(operation: Operation) -> None:
    if operation.modifiers & _LINKS:
        raise ValueError("only a Chain links operations or has them skip success")
    if operation.modifiers & SqeFlag.IO_DRAIN:
        raise ValueError("drain would wait for the loop's own polls, which never end; use a Ring of your own")
