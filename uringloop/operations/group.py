"""Operations that go to the kernel together, and are waited for together."""

import asyncio
from collections.abc import Iterable
from typing import Any

from ..ring import CqeFlag, Dispatcher
from .base import Operation

_MORE = int(CqeFlag.MORE)


class Place:
    """Waits for one of several operations."""

    __slots__ = ("_group", "completion", "first", "operation")

    def __init__(self, group: "Group", operation: Operation) -> None:
        self._group = group
        self.operation = operation
        self.completion: tuple[int, int] | None = None
        self.first: tuple[int, int] | None = None

    def done(self) -> bool:
        """Whether it has ended."""
        return self.completion is not None

    def set_result(self, completion: tuple[int, int], /) -> None:
        """It has ended."""
        self.completion = completion
        self._group.ended(self)

    def outcome(self) -> Any:
        """The result, or the exception."""
        assert self.completion is not None
        res, flags = self.completion
        return self.operation.error(res) if res < 0 else self.operation.result(res, flags)

    def drop(self) -> None:
        """Nobody gets the result."""
        if self.completion is not None and self.completion[0] >= 0:
            self.operation.dispose(*self.completion)
        self.operation.release()


class Group:
    """Operations that are submitted together and waited for together.

    Args:
        operations: none of them submitted yet.

    Raises:
        ValueError: one of them is there twice.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._places = [Place(self, operation) for operation in operations]
        if len({id(place.operation) for place in self._places}) < len(self._places):
            raise ValueError("an operation can be in flight only once")
        self._waiting: dict[int, Place] = {}
        self._left = 0
        self._is_abandoned = False
        self._waiter: asyncio.Future[None] | None = None

    def submit(self, dispatcher: Dispatcher) -> None:
        """Put all of them in flight."""
        try:
            for place in self._places:
                self._submit(place, dispatcher)
        except BaseException:
            self.abandon()
            raise

    def _submit(self, place: Place, dispatcher: Dispatcher) -> None:
        place.operation.wait_with(place)
        self._waiting[id(place.operation)] = place
        # Not what a class does besides: nothing is submitted before all of them are staged.
        Operation.submit(place.operation, dispatcher)
        self._left += 1

    def __contains__(self, operation: object) -> bool:
        return id(operation) in self._waiting

    def hear(self, operation: Operation, res: int, flags: int) -> None:
        """One of them completed, on a ring that no loop drives."""
        place = self._waiting[id(operation)]
        if flags & _MORE:
            # Of a zero-copy send; what follows is the notification.
            place.first = res, flags
        else:
            place.set_result(place.first or (res, flags))

    @property
    def is_over(self) -> bool:
        """Whether all of them have ended."""
        return self._left == 0

    def ended(self, place: Place) -> None:
        """One of them has ended."""
        self._left -= 1
        if self._left == 0 and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def abandon(self) -> None:
        """Have the kernel cancel all of them; nobody gets their results."""
        if self._is_abandoned:
            return
        self._is_abandoned = True
        for place in self._places:
            if place.done():
                place.drop()
            place.operation.abandon()

    async def run(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> None:
        """Submit, and wait until the last has ended.

        Raises:
            asyncio.CancelledError: only when the kernel is done with the memory of all of them.
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
                # The coroutine is thrown away.
                self.abandon()
                raise
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                # Or frame and exception would hold each other, and with them the caller's memory.
                del cancelled

    def outcomes(self) -> list[Any]:
        """Of each operation its result or its exception; all have ended."""
        outcomes = [place.outcome() for place in self._places]
        for place in self._places:
            place.operation.release()
        return outcomes

    def results(self) -> list[Any]:
        """The result of each operation; all have ended.

        Raises:
            OSError: the first failure, in the order of the operations; the results of the others are disposed of.
        """
        failed = next((place for place in self._places if place.completion is None or place.completion[0] < 0), None)
        if failed is None:
            return self.outcomes()
        for place in self._places:
            place.drop()
        raise failed.outcome()
