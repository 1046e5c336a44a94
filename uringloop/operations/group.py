"""`Group`: operations that one call submits and one future waits for."""

import asyncio
from collections.abc import Iterable
from typing import Any

from ..ring import CqeFlag, Dispatcher
from .operation import Operation

_MORE = int(CqeFlag.MORE)


class GroupMember:
    """Stands for one operation of a group, as the future that the operation resolves."""

    __slots__ = ("_group", "completion", "first", "operation")

    def __init__(self, group: "Group", operation: Operation) -> None:
        self._group = group
        self.operation = operation
        self.completion: tuple[int, int] | None = None
        self.first: tuple[int, int] | None = None

    def done(self) -> bool:
        """Return whether the operation has ended."""
        return self.completion is not None

    def set_result(self, completion: tuple[int, int], /) -> None:
        """Keep the completion, a result and CQE flags, and tell the group."""
        self.completion = completion
        self._group.ended(self)

    def result_or_error(self) -> Any:
        """Return the operation's result, or its exception."""
        assert self.completion is not None
        res, flags = self.completion
        return self.operation.error(res) if res < 0 else self.operation.result(res, flags)

    def drop(self) -> None:
        """Dispose of the result: no caller receives it."""
        if self.completion is not None and self.completion[0] >= 0:
            self.operation.dispose(*self.completion)
        self.operation.release()


class Group:
    """Submit operations together and wait for all of them.

    Args:
        operations: not submitted yet, each of them once.

    Raises:
        ValueError: an operation occurs twice.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._members = [GroupMember(self, operation) for operation in operations]
        if len({id(member.operation) for member in self._members}) < len(self._members):
            raise ValueError("an operation can be in flight only once")
        self._waiting: dict[int, GroupMember] = {}
        self._left = 0
        self._is_abandoned = False
        self._waiter: asyncio.Future[None] | None = None

    def submit(self, dispatcher: Dispatcher) -> None:
        """Stage all operations; if one is refused, abandon those before it."""
        try:
            for member in self._members:
                self._submit(member, dispatcher)
        except BaseException:
            self.abandon()
            raise

    def _submit(self, member: GroupMember, dispatcher: Dispatcher) -> None:
        member.operation.wait_with(member)
        self._waiting[id(member.operation)] = member
        # Not the subclass's method, which may submit: no SQE leaves before all are staged.
        Operation.submit(member.operation, dispatcher)
        self._left += 1

    def __contains__(self, operation: object) -> bool:
        return id(operation) in self._waiting

    def hear(self, operation: Operation, res: int, flags: int) -> None:
        """Take the completion of one operation, on a ring that no loop drives."""
        member = self._waiting[id(operation)]
        if flags & _MORE:
            # A zero-copy send: its notification follows.
            member.first = res, flags
        else:
            member.set_result(member.first or (res, flags))

    @property
    def is_over(self) -> bool:
        """Return whether all operations have ended."""
        return self._left == 0

    def ended(self, member: GroupMember) -> None:
        """Count one operation that has ended."""
        self._left -= 1
        if self._left == 0 and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abandon(self) -> None:
        """Cancel all operations and drop their results."""
        if self._is_abandoned:
            return
        self._is_abandoned = True
        for member in self._members:
            if member.done():
                member.drop()
            member.operation.abandon()

    async def run(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> None:
        """Submit, and wait until the last operation has ended.

        Args:
            loop: makes the future that is awaited.
            dispatcher: stages the SQEs.

        Raises:
            asyncio.CancelledError: raised only when the kernel has released the memory of all operations.
        """
        self.submit(dispatcher)
        cancelled = None
        while not self.is_over:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
                self.abandon()
            except BaseException:
                # The coroutine is being closed.
                self.abandon()
                raise
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                # Else frame and exception would hold each other, and the caller's memory with them.
                del cancelled

    def results_or_errors(self) -> list[Any]:
        """Return the result or the exception of each operation; call it when all have ended."""
        results = [member.result_or_error() for member in self._members]
        for member in self._members:
            member.operation.release()
        return results

    def results(self) -> list[Any]:
        """Return the result of each operation; call it when all have ended.

        Raises:
            OSError: the first failure, in the order of the operations.  The other results are disposed of.
        """
        failed = next((one for one in self._members if one.completion is None or one.completion[0] < 0), None)
        if failed is None:
            return self.results_or_errors()
        for member in self._members:
            member.drop()
        raise failed.result_or_error()
