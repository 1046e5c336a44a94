"""`loop.submit` and its siblings: operations from coroutines, one, or many side by side, or one after the other.

The loop refuses IO_DRAIN: it waits for everything before it, and the loop's own polls never end.
"""

from collections.abc import Coroutine, Iterable
from typing import Any, Literal, overload

from .hooks import PrivateLoop
from .operations import Chain, Group, Multishot, MultishotIterator, Operation, Results, read_at
from .operations.positional import PositionalTransfer
from .ring import Descriptor, Dispatcher, LoopRing, Opcode, SqeFlag

_LINKS = int(SqeFlag.IO_LINK | SqeFlag.IO_HARDLINK | SqeFlag.CQE_SKIP_SUCCESS)
_DRAIN = int(SqeFlag.IO_DRAIN)


class Submitting(PrivateLoop):
    """The loop's methods for operations."""

    _dispatcher: Dispatcher

    def has_budget(self) -> bool:
        """Return whether the running callback may do one more thing at once; the scheduler decides."""
        raise NotImplementedError

    @property
    def ring(self) -> LoopRing:
        """Return the ring, to register resources with; a loop that changes threads gets another one."""
        return self._made_ring()

    def _made_ring(self) -> LoopRing:
        """Return the ring; make it if nothing has needed it before."""
        raise NotImplementedError

    @property
    def opcodes(self) -> frozenset[Opcode]:
        """Return the operations that the kernel has."""
        return self._made_ring().features.opcodes

    async def submit(self, operation: Operation) -> Any:
        """Run one operation on the ring and return its result.

        It does not suspend if the kernel can complete the operation at once and no handle is ready.  Operations of many
        ready tasks go to the kernel together.

        Raises:
            OSError: the kernel's errno, with the filename if the operation has one.
            RuntimeError: the loop is closed.
            ValueError: the operation asks to be linked, to drain or to skip success.
            asyncio.CancelledError: raised only when the kernel has released the operation's memory.
        """
        self._check_closed()
        if operation.modifiers:
            _check_modifiers(operation)
        dispatcher = self._dispatcher
        at_once = operation.may_end_at_once and not self._ready and self.has_budget()
        if at_once and operation.run_at_once(dispatcher):
            return operation.result_at_once()
        return await operation.run(self, dispatcher)

    def read_at(self, file: int | Descriptor, buffer: Any, offset: int) -> Coroutine[Any, Any, int]:
        """Read into a writable buffer through the ring, as pread(2), at less cost than `submit`.

        Returns:
            The number of bytes, 0 at the end of the file.

        Raises:
            OSError: as from pread(2).
            RuntimeError: the loop is closed.
            asyncio.CancelledError: raised only when the kernel has released the buffer.
        """
        return read_at(self, self._dispatcher, file, buffer, offset)

    def begin_write(self, file: int | Descriptor, buffer: Any, offset: int) -> PositionalTransfer:
        """Put a write in flight, as pwrite(2), at less cost than `submit`; `operations.transferred` waits for it.

        Raises:
            RuntimeError: the loop is closed.
        """
        self._check_closed()
        at_once = not self._ready and self.has_budget()
        return PositionalTransfer(self._dispatcher, self.create_future(), file, buffer, offset, True, at_once)

    @overload
    async def submit_many(
        self, operations: Iterable[Operation], *, return_exceptions: Literal[False] = False
    ) -> list[Any]: ...

    @overload
    async def submit_many(
        self, operations: Iterable[Operation], *, return_exceptions: bool
    ) -> list[Any | BaseException]: ...

    async def submit_many(self, operations: Iterable[Operation], *, return_exceptions: bool = False) -> list[Any]:
        """Run operations side by side, all submitted together; return their results in the same order.

        All operations run to their end, even if one fails.

        Args:
            operations: not submitted yet, each of them once.
            return_exceptions: put an exception in the place of its result, as `asyncio.gather` does.

        Raises:
            OSError: the first failure in the order given, unless return_exceptions.  The other results are then
                disposed of, and descriptors closed.
            ValueError: as of `submit`, or an operation occurs twice.
            asyncio.CancelledError: raised only when the kernel has released the memory of all operations.
        """
        self._check_closed()
        operations = list(operations)
        for operation in operations:
            _check_modifiers(operation)
        group = Group(operations)
        await group.run(self, self._dispatcher)
        return group.results_or_errors() if return_exceptions else group.results()

    async def submit_chain(self, chain: Chain | Iterable[Operation]) -> list[Any]:
        """Run operations one after the other, in the kernel; return their results in the same order.

        Args:
            chain: operations of which each begins when the one before has ended well.  A `Chain` also offers hard
                links, timeouts and parts that skip success.

        Raises:
            ChainError: a part failed; the error names it, the cancelled parts, and all results.
            ValueError: the chain is empty or longer than the submission queue, or a part asks to drain.
            asyncio.CancelledError: raised only when the kernel has released the memory of all parts.
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

        The kernel may end it at any time; it is then armed again.  It ends with its source (a stream, a timeout's
        count),
        with an error, or with the iterator: see `MultishotIterator`.

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
    if operation.modifiers & _DRAIN:
        raise ValueError("drain would wait for the loop's own polls, which never end; use a Ring of your own")
