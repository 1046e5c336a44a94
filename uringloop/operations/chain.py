"""Chains: operations of which each begins when the one before it has ended well.

To the kernel a chain is a row of SQEs with IO_LINK.  It breaks at a part that fails, which for a read, write or splice
also means one that moved less than was asked for; the kernel cancels the rest.  A hard link holds whatever becomes of
the part before it.  A chain that straddles two submits is two chains, so room for all of it is reserved first.

A quiet part (CQE_SKIP_SUCCESS) reports only its failure, and then nothing behind it reports at all.  What became of
the quiet ones shows in what others report: so the last part is never quiet, and quiet ones come first, because those
behind a failed part that is not quiet do report.  A ring that has seen a quiet part refuses drain from then on.
"""

import errno
import os
from collections.abc import Iterable
from typing import Any, Self

from ..ring import Dispatcher, SqeFlag
from .base import Operation
from .group import Group, Place
from .timer import LinkTimeout


class ChainError(OSError):
    """A chain broke.

    Attributes:
        errno, filename: of the part that failed; None if it moved less than was asked for.
        failed: the number of that part, from 0 on.
        cancelled: the numbers of the parts that the kernel cancelled for it.
        results: of each part what it gave, or its exception; None of a quiet part that did not fail.  What was opened
            is now the caller's.
    """

    def __init__(self, failed: int, operation: Operation, results: list[Any]) -> None:
        self.failed = failed
        self.results = results
        self.cancelled = [
            number
            for number, result in enumerate(results)
            if number != failed and isinstance(result, OSError) and result.errno == errno.ECANCELED
        ]
        part = f"part {failed} of the chain ({type(operation).__name__})"
        rest = f"; cancelled: {', '.join(map(str, self.cancelled))}" if self.cancelled else ""
        error = results[failed]
        if isinstance(error, OSError):
            super().__init__(error.errno, f"{part} failed: {error.strerror or error}{rest}", error.filename)
        elif isinstance(error, BaseException):
            super().__init__(f"{part} failed: {error!r}{rest}")
        else:
            super().__init__(f"{part} moved less than was asked for: {error}{rest}")


class _Part(Place):
    __slots__ = ("is_hard", "is_quiet", "is_silent", "timeout")

    def __init__(
        self, chain: "Chain", operation: Operation, is_hard: bool, is_quiet: bool, timeout: LinkTimeout | None
    ) -> None:
        super().__init__(chain, operation)
        self.is_hard = is_hard
        self.is_quiet = is_quiet
        self.timeout = timeout
        #: It ended well, and did not say how.
        self.is_silent = False

    def outcome(self) -> Any:
        if self.is_silent:
            return None
        assert self.completion is not None
        outcome: Any
        if self.completion[0] == -errno.ECANCELED:
            # Most likely because the chain broke before it.
            outcome = OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), *self._filenames())
        else:
            outcome = super().outcome()
        cancelled = isinstance(outcome, OSError) and outcome.errno in (errno.ECANCELED, errno.EINTR)
        if cancelled and self.timeout is not None and self.timeout.has_expired:
            return TimeoutError(errno.ETIMEDOUT, "it took longer than its timeout")
        return outcome

    def _filenames(self) -> tuple[Any, ...]:
        filename = self.operation.filename
        return () if filename is None else (filename,)

    def drop(self) -> None:
        if not self.is_silent:
            super().drop()


class Chain(Group):
    """Operations of which each begins when the one before it has ended well; see the head of this module.

    Args:
        operations: joined by plain links; `add` knows other ways.
    """

    _places: list[_Part]  # type: ignore[assignment]  # a chain has no others

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        super().__init__(())
        self._dispatcher: Dispatcher | None = None
        for operation in operations:
            self.add(operation)

    def add(
        self,
        operation: Operation,
        *,
        hard: bool = False,
        drain: bool = False,
        quiet: bool = False,
        timeout_ns: int | None = None,
    ) -> Self:
        """Add a part.

        Args:
            operation: not submitted yet.
            hard: the next part runs also if this one fails.
            drain: it begins when everything that was submitted before has ended.  Not inside a loop, whose own polls
                never end.
            quiet: it reports only failure, and its result is None.  Neither the last part, nor behind one that is not
                quiet, nor one whose result must not be lost, such as a descriptor.
            timeout_ns: it is cancelled after this time, and fails with TimeoutError.

        Returns:
            The chain.

        Raises:
            ValueError: the operation is in the chain already, or cannot be quiet.
            RuntimeError: the chain was submitted.
        """
        if self._dispatcher is not None:
            raise RuntimeError("the chain was submitted")
        if any(part.operation is operation for part in self._places):
            raise ValueError("an operation can be in flight only once")
        if quiet and type(operation).dispose is not Operation.dispose:
            raise ValueError(f"{type(operation).__name__} cannot be quiet: its result would be lost")
        if quiet and self._places and not self._places[-1].is_quiet:
            raise ValueError("a quiet part cannot follow one that is not quiet")
        timeout = None if timeout_ns is None else LinkTimeout(timeout_ns)
        if drain:
            operation.modifiers |= SqeFlag.IO_DRAIN
        self._places.append(_Part(self, operation, hard, quiet, timeout))
        return self

    @property
    def operations(self) -> list[Operation]:
        """The parts."""
        return [part.operation for part in self._places]

    def timeout_of(self, number: int) -> LinkTimeout:
        """The timeout of a part, for `TimeoutUpdate`.

        Raises:
            ValueError: it has none.
        """
        timeout = self._places[number].timeout
        if timeout is None:
            raise ValueError(f"part {number} has no timeout")
        return timeout

    def submit(self, dispatcher: Dispatcher) -> None:
        """Put all parts in flight.

        Raises:
            ValueError: there is no part, the last one is quiet, or the chain is longer than the submission queue.
            RuntimeError: it was submitted before.
        """
        if self._dispatcher is not None:
            raise RuntimeError("the chain was submitted")
        if not self._places:
            raise ValueError("a chain needs a part")
        if self._places[-1].is_quiet:
            raise ValueError("the last part of a chain cannot be quiet: nothing would say that the chain has ended")
        try:
            dispatcher.reserve(sum(1 if part.timeout is None else 2 for part in self._places))
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise ValueError("the chain is longer than the submission queue") from None
        self._dispatcher = dispatcher
        for part in self._places:
            self._stage(part, dispatcher, is_last=part is self._places[-1])

    def _stage(self, part: _Part, dispatcher: Dispatcher, is_last: bool) -> None:
        link = SqeFlag.IO_HARDLINK if part.is_hard else SqeFlag.IO_LINK
        if part.is_quiet:
            part.operation.modifiers |= SqeFlag.CQE_SKIP_SUCCESS
        if not is_last or part.timeout is not None:
            part.operation.modifiers |= link
        self._submit(part, dispatcher)
        if part.timeout is not None:
            if not is_last:
                part.timeout.modifiers |= link
            self._submit(Place(self, part.timeout), dispatcher)

    def ended(self, place: Place) -> None:
        """A part has ended, or a timeout."""
        if isinstance(place, _Part):
            self._end_quiet(place)
            if self._is_abandoned:
                self._cancel_rest()
        super().ended(place)

    def _end_quiet(self, reporting: _Part) -> None:
        """What the report of one part says of those that do not report."""
        number = self._places.index(reporting)
        for part in self._places[:number]:
            if part.operation.in_flight:
                part.is_silent = True
                self._end_silently(part, 0)
        if reporting.is_quiet and not reporting.is_hard:
            for part in self._places[number + 1 :]:
                self._end_silently(part, -errno.ECANCELED)
                if part.timeout is not None:
                    self._end_silently(Place(self, part.timeout), -errno.ECANCELED)

    def _end_silently(self, place: Place, res: int) -> None:
        assert self._dispatcher is not None
        place.completion = self._dispatcher.retire(place.operation.token, res), 0
        self._left -= 1

    def _cancel_rest(self) -> None:
        """One that had not begun when it was cancelled could not be found."""
        assert self._dispatcher is not None
        for part in self._places:
            if part.operation.in_flight:
                self._dispatcher.cancel(part.operation.token)

    def results(self) -> list[Any]:
        """The result of each part, None of a quiet one; all have ended.

        Raises:
            ChainError: the chain broke; it has the results of all parts.
        """
        results = self.outcomes()
        self._explain_first_cancelled(results)
        failed = _find_failure(results)
        if failed is None:
            return results
        cause = results[failed] if isinstance(results[failed], BaseException) else None
        raise ChainError(failed, self._places[failed].operation, results) from cause

    def _explain_first_cancelled(self, results: list[Any]) -> None:
        """The first part that failed was cancelled: either the one before moved less, or it got no kernel worker."""
        for number, result in enumerate(results):
            if isinstance(result, BaseException):
                if getattr(result, "errno", None) == errno.ECANCELED:
                    results[number] = self._places[number].operation.error(-errno.ECANCELED)
                return


def _find_failure(results: list[Any]) -> int | None:
    """The first part that failed by itself."""
    errors = [number for number, result in enumerate(results) if isinstance(result, BaseException)]
    for number in errors:
        if getattr(results[number], "errno", None) != errno.ECANCELED:
            return number
    # Where all that failed was cancelled, the part before moved less than was asked for.
    return max(errors[0] - 1, 0) if errors else None
