"""The loop's methods for a look at itself: statistics, times and slow callbacks.

Nothing is timed unasked.  `start_measuring` and `set_slow_callback_handler` give the loop a `Meter`,
and so does the variable URINGLOOP_STATISTICS, which also shows its numbers to `python -m uringloop top`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

from .hooks import PrivateLoop
from .loop_ring import RingKeeping
from .meter import BOUNDS_NS, SLOW_NS, Meter
from .operations import Poll
from .ring.metered import name_outcome
from .ring.statistics import Statistics, no_statistics
from .ring.variables import variable
from .selector.registry import Registry

#: Set to 1, it has each loop measure from its making on, and share its numbers with `python -m uringloop top`.
STATISTICS_VARIABLE = "URINGLOOP_STATISTICS"

SlowCallbackHandler = Callable[[Any, dict[str, Any]], object]


class Histogram(TypedDict):
    """How often a duration was how long.

    Keys: bounds_ns, the upper bounds of all buckets but the last, which has none; counts, one for each bucket; sum_ns,
    the sum of all durations; longest_ns.
    """

    bounds_ns: tuple[int, ...]
    counts: list[int]
    sum_ns: int
    longest_ns: int


class SlowCallback(TypedDict):
    """The callbacks of one name that took long.  Keys: name, calls (their number), total_ns, longest_ns."""

    name: str
    calls: int
    total_ns: int
    longest_ns: int


class Measured(TypedDict):
    """The numbers since `start_measuring`.

    Keys: since_ns, that moment on the loop's clock; ticks, callbacks and completions, their numbers; busy_ns and
    asleep_ns, the time that runs of the loop spent so; lag, how late callbacks, timers and completions ran;
    tick_lengths, from the end of one sleep to the begin of the next; slowest, the names of the callbacks that took
    longest, the longest first.
    """

    since_ns: int
    ticks: int
    callbacks: int
    completions: int
    busy_ns: int
    asleep_ns: int
    lag: Histogram
    tick_lengths: Histogram
    slowest: list[SlowCallback]


class LoopStatistics(Statistics):
    """The counters of the loop's ring, and under `measured` its other numbers, None if it does not measure."""

    measured: Measured | None


def measured_of(numbers: dict[str, Any]) -> Measured:
    """Return the public part of a page's numbers; see `meter.read_page`."""
    chosen: Any = {name: numbers[name] for name in Measured.__annotations__}
    for name in ("lag", "tick_lengths"):
        chosen[name] = {"bounds_ns": BOUNDS_NS, **chosen[name]}
    measured: Measured = chosen
    return measured


class Measuring(RingKeeping, PrivateLoop):
    """The loop's meter, as far as there is one."""

    # Written by EventLoop.
    _registry: Registry
    _resolver_poll: Poll | None
    # Of `Scheduler`.
    _meter: Meter | None

    def _measure_by(self, meter: Meter | None) -> None:
        """Have a meter count and time the callbacks; see `Scheduler`."""
        raise NotImplementedError

    def _use_meter(self, meter: Meter | None) -> None:
        """Have a meter count and time callbacks and completions; None ends that."""
        # Both look at one flag of the tick, which `_measure_by` sets: there must be a meter then.
        if meter is not None:
            self._dispatcher.meter = meter
        self._measure_by(meter)
        self._dispatcher.meter = meter

    def _start_measuring_if_asked(self) -> None:
        """Measure from the loop's making on, if the environment asks for that."""
        if variable(STATISTICS_VARIABLE) not in ("", "0"):
            try:
                self.share_statistics()
            except BaseException:
                self.close()
                raise

    def statistics(self) -> LoopStatistics:
        """Return the ring's counters, see `RingBase.statistics`, and under `measured` the loop's own numbers or None.

        in_flight leaves out the loop's own polls.
        """
        counters = no_statistics(self._expected)
        if self._ring is not None:
            counters = self._ring.statistics()
            own = (self._wakeup, self._registry, self._resolver_poll)
            counters["in_flight"] -= sum(poll is not None and poll.in_flight for poll in own)
        meter = self._meter
        return {**counters, "measured": measured_of(meter.read()) if meter is not None and meter.counts else None}

    def start_measuring(self, *, slow_ns: int = SLOW_NS) -> None:
        """Measure from now on; `statistics()["measured"]` has the result.  A second call begins again.

        Args:
            slow_ns: callbacks that take at least so many nanoseconds are remembered by name.

        Raises:
            RuntimeError: the loop is closed.
            ValueError: slow_ns is negative.
        """
        if slow_ns < 0:
            raise ValueError(f"slow_ns must not be negative, not {slow_ns!r}")
        self._made_meter().start(slow_ns)

    def stop_measuring(self) -> None:
        """Measure no more, and forget what was measured."""
        meter = self._meter
        if meter is not None:
            meter.stop()
            meter.unshare()
            self._drop_unused_meter(meter)

    def share_statistics(self) -> None:
        """Measure, and let `python -m uringloop top PID` read the numbers while the loop lives.

        Only this user's processes, and root's, can read them.

        Raises:
            RuntimeError: the loop is closed.
            OSError: the kernel refuses shared memory.
        """
        meter = self._made_meter()
        meter.share()
        if not meter.counts:
            meter.start(SLOW_NS)

    def set_slow_callback_handler(self, handler: SlowCallbackHandler | None) -> None:
        """Call `handler(loop, context)` after each callback that took `loop.slow_callback_duration` or longer.

        asyncio logs such callbacks in debug mode only; the handler is called in every mode.  It runs in the loop's
        thread.  What it raises goes to the loop's exception handler.  The context is a dict with these keys: "name", as
        in `SlowCallback`; "duration", in seconds; "source", the callback, the task if it was a step of one, or the
        protocol that heard of a completion.

        Args:
            handler: the function, or None for none.

        Raises:
            TypeError: the handler cannot be called.
            RuntimeError: the loop is closed.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        if handler is None and self._meter is None:
            return
        meter = self._made_meter()
        meter.handler = handler
        self._slow_duration_changed()
        self._drop_unused_meter(meter)

    def get_slow_callback_handler(self) -> SlowCallbackHandler | None:
        """Return the handler of slow callbacks, None if there is none."""
        handler: SlowCallbackHandler | None = None if self._meter is None else self._meter.handler
        return handler

    def _slow_duration_changed(self) -> None:
        """Tell the meter from which duration on the handler is called."""
        meter = self._meter
        if meter is not None:
            meter.call_if_slow(None if meter.handler is None else self._callback_was_slow, self.slow_callback_duration)

    def _callback_was_slow(self, name: str, duration_ns: int, source: Any) -> None:
        task = getattr(source, "__self__", None)
        if isinstance(task, asyncio.Task):
            source = task
        handler = self.get_slow_callback_handler()
        if handler is None:
            return
        try:
            handler(self, {"name": name, "duration": duration_ns * 1e-9, "source": source})
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler(
                {"message": f"Exception in the handler of slow callbacks {handler!r}", "exception": error}
            )

    def _made_meter(self) -> Meter:
        """Return the loop's meter; make it if there is none."""
        self._check_closed()
        if self._meter is None:
            meter = Meter(self._expected == "epoll")
            meter.name_outcome = name_outcome
            self._use_meter(meter)
            self._slow_duration_changed()
        assert self._meter is not None
        return self._meter

    def _drop_unused_meter(self, meter: Meter) -> None:
        if not meter.is_used():
            self._use_meter(None)

    def _end_measuring(self) -> None:
        """Drop the meter and the handler: the loop is closed."""
        if self._meter is not None:
            self._meter.handler = None
            self._meter.call_if_slow(None, 0)
            self._meter.unshare()
            self._use_meter(None)
