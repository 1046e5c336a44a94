"""`Chain`: operations of which each begins when the one before it has ended well.

The kernel sees a chain as a row of SQEs with IO_LINK.  The chain breaks at a part that fails; the kernel cancels the
rest.  A read, write or splice fails here also if it moves less than it was asked for.  A hard link holds in either
case.  A chain that straddles two submits becomes two chains, so `submit` first reserves room for all parts.

A part that skips success (IOSQE_CQE_SKIP_SUCCESS) completes only if it fails.  If it fails, no later part completes.
The completions of other parts show how such a part ended.  So the last part never skips success, and those that do
come first: a part behind a failed one that does not skip success does complete.  A ring that has seen such a part
refuses IO_DRAIN from then on.
"""

import errno
import os
from collections.abc import Iterable
from typing import Any, Self

from ..ring import Dispatcher, SqeFlag
from .group import Group, GroupMember
from .operation import Operation
from .timer import LinkTimeout


class ChainError(OSError):
    """A chain broke.

    Attributes:
        errno, filename: of the part that failed; None if it moved less than it was asked for.
        failed: the number of that part, from 0 on.
        cancelled: the numbers of the parts that the kernel cancelled for it.
        results: the result of each part, or its exception; None for a part that skipped success.  The caller owns the
            descriptors among them.
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


class ChainMember(GroupMember):
    __slots__ = ("has_skipped", "is_hard", "skips_success", "timeout")

    def __init__(
        self, chain: "Chain", operation: Operation, is_hard: bool, skips_success: bool, timeout: LinkTimeout | None
    ) -> None:
        super().__init__(chain, operation)
        self.is_hard = is_hard
        self.skips_success = skips_success
        self.timeout = timeout
        #: It ended well, without a completion.
        self.has_skipped = False

    def result_or_error(self) -> Any:
        if self.has_skipped:
            return None
        assert self.completion is not None
        result: Any
        if self.completion[0] == -errno.ECANCELED:
            # Most likely the chain broke before it.
            result = OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), *self._filenames())
        else:
            result = super().result_or_error()
        cancelled = isinstance(result, OSError) and result.errno in (errno.ECANCELED, errno.EINTR)
        if cancelled and self.timeout is not None and self.timeout.has_expired:
            return TimeoutError(errno.ETIMEDOUT, "it took longer than its timeout")
        return result

    def _filenames(self) -> tuple[Any, ...]:
        filename = self.operation.filename
        return () if filename is None else (filename,)

    def drop(self) -> None:
        if not self.has_skipped:
            super().drop()


class Chain(Group):
    """Link operations; see the head of this module.

    Args:
        operations: to be joined by plain links; `add` offers the other ways.
    """

    _members: list[ChainMember]  # type: ignore[assignment]  # a chain has no others

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
        skip_success: bool = False,
        timeout_ns: int | None = None,
    ) -> Self:
        """Append a part.

        Args:
            operation: not submitted yet.  A `LinkTimeout` becomes the timeout of the part before it.
            hard: the next part runs also if this part fails.
            drain: the part begins when all SQEs submitted before it have ended.  Never use it on a loop: the loop's own
                polls never end.
            skip_success: the part completes only if it fails; its result is None.  The last part cannot, nor a part
                behind one that does not, nor an operation whose result must not be lost, such as a descriptor.
            timeout_ns: the kernel cancels the part after this time; it then fails with TimeoutError.

        Returns:
            This chain.

        Raises:
            ValueError: the operation is in the chain already, or cannot skip success; or a `LinkTimeout` has options
                other than `hard`.
            RuntimeError: the chain was submitted before.
        """
        if self._dispatcher is not None:
            raise RuntimeError("the chain was submitted")
        if any(operation in (part.operation, part.timeout) for part in self._members):
            raise ValueError("an operation can be in flight only once")
        if isinstance(operation, LinkTimeout) and self._members and self._members[-1].timeout is None:
            if drain or skip_success or timeout_ns is not None:
                raise ValueError("a LinkTimeout belongs to the part before it: it can only have a hard link")
            self._members[-1].timeout = operation
            self._members[-1].is_hard |= hard
            return self
        if skip_success and type(operation).dispose is not Operation.dispose:
            raise ValueError(f"{type(operation).__name__} cannot skip success: its result would be lost")
        if skip_success and self._members and not self._members[-1].skips_success:
            raise ValueError("a part that skips success cannot follow one that does not")
        timeout = None if timeout_ns is None else LinkTimeout(timeout_ns)
        if drain:
            operation.modifiers |= SqeFlag.IO_DRAIN
        self._members.append(ChainMember(self, operation, hard, skip_success, timeout))
        return self

    @property
    def operations(self) -> list[Operation]:
        """Return the parts in order."""
        return [part.operation for part in self._members]

    def submit(self, dispatcher: Dispatcher) -> None:
        """Put all parts in flight.

        Raises:
            ValueError: the chain has no part, its last part skips success, or it is longer than the submission queue.
            RuntimeError: the chain was submitted before.
        """
        if self._dispatcher is not None:
            raise RuntimeError("the chain was submitted")
        if not self._members:
            raise ValueError("a chain needs a part")
        if self._members[-1].skips_success:
            raise ValueError(
                "the last part of a chain cannot skip success: no completion would tell of the chain's end"
            )
        try:
            dispatcher.reserve(sum(1 if part.timeout is None else 2 for part in self._members))
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise ValueError("the chain is longer than the submission queue") from None
        self._dispatcher = dispatcher
        for part in self._members:
            self._stage(part, dispatcher, is_last=part is self._members[-1])

    def _stage(self, part: ChainMember, dispatcher: Dispatcher, is_last: bool) -> None:
        link = SqeFlag.IO_HARDLINK if part.is_hard else SqeFlag.IO_LINK
        if part.skips_success:
            part.operation.modifiers |= SqeFlag.CQE_SKIP_SUCCESS
        if not is_last or part.timeout is not None:
            part.operation.modifiers |= link
        self._submit(part, dispatcher)
        if part.timeout is not None:
            if not is_last:
                part.timeout.modifiers |= link
            self._submit(GroupMember(self, part.timeout), dispatcher)

    def ended(self, member: GroupMember) -> None:
        """Count a part or a timeout that has ended; called by its `GroupMember`."""
        if isinstance(member, ChainMember):
            self._end_skipped(member)
            if self._is_abandoned:
                self._cancel_rest()
        super().ended(member)

    def _end_skipped(self, reporting: ChainMember) -> None:
        """End the parts of which the completion of one part tells."""
        number = self._members.index(reporting)
        for part in self._members[:number]:
            # Others may be in flight still: a part with a timeout, or a send whose notification follows.
            if part.skips_success and part.operation.in_flight:
                part.has_skipped = True
                self._retire(part, 0)
        if reporting.skips_success and not reporting.is_hard:
            for part in self._members[number + 1 :]:
                self._retire(part, -errno.ECANCELED)
                if part.timeout is not None:
                    self._retire(GroupMember(self, part.timeout), -errno.ECANCELED)

    def _retire(self, member: GroupMember, res: int) -> None:
        assert self._dispatcher is not None
        member.completion = self._dispatcher.retire(member.operation.token, res), 0
        self._left -= 1

    def _cancel_rest(self) -> None:
        """Cancel again: the first cancel did not find a part that had not begun."""
        assert self._dispatcher is not None
        for part in self._members:
            if part.operation.in_flight:
                self._dispatcher.cancel(part.operation.token)

    def results(self) -> list[Any]:
        """Return the result of each part, None for one that skipped success; call it when all have ended.

        Raises:
            ChainError: the chain broke; the error holds the results of all parts.
        """
        results = self.results_or_errors()
        self._explain_first_cancelled(results)
        failed = _find_failure(results)
        if failed is None:
            return results
        cause = results[failed] if isinstance(results[failed], BaseException) else None
        raise ChainError(failed, self._members[failed].operation, results) from cause

    def _explain_first_cancelled(self, results: list[Any]) -> None:
        """Name the cause if the first failed part was cancelled: a short move before it, or no kernel worker for it."""
        for number, result in enumerate(results):
            if isinstance(result, BaseException):
                if getattr(result, "errno", None) == errno.ECANCELED:
                    results[number] = self._members[number].operation.error(-errno.ECANCELED)
                return


def _find_failure(results: list[Any]) -> int | None:
    """Return the number of the first part that failed by itself, or None."""
    errors = [number for number, result in enumerate(results) if isinstance(result, BaseException)]
    for number in errors:
        if getattr(results[number], "errno", None) != errno.ECANCELED:
            return number
    # If each failed part was cancelled, the part before the first of them moved less than it was asked for.
    return max(errors[0] - 1, 0) if errors else None
