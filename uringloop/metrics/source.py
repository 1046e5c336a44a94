"""`LoopSource`: the loops that are looked at, and the table of their metrics, which both libraries share."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..loop import EventLoop
from ..meter import BOUNDS_NS
from ..ring.statistics import COUNTERS

_NS_PER_S = 1e9


class Metric(NamedTuple):
    """A number of a loop.

    Attributes:
        name: with underscores, without the unit.
        unit: "seconds", "bytes", or empty for a count.
        description: one line.
        value: takes it out of the numbers; see `LoopSource.read`.
    """

    name: str
    unit: str
    description: str
    value: Callable[[dict[str, Any]], float]


def _of(name: str, factor: float = 1) -> Callable[[dict[str, Any]], float]:
    return lambda numbers: numbers[name] * factor


#: These only grow, until the loop begins to measure again.
GROWING = (
    Metric("ticks", "", "Turns of the loop.", _of("ticks")),
    Metric("callbacks", "", "Callbacks and timers that ran.", _of("callbacks")),
    Metric("completions", "", "Completions that were dispatched.", _of("completions")),
    Metric("busy", "seconds", "Time that runs of the loop have worked.", _of("busy_ns", 1 / _NS_PER_S)),
    Metric("asleep", "seconds", "Time that runs of the loop have waited.", _of("asleep_ns", 1 / _NS_PER_S)),
    Metric("received", "bytes", "Bytes of streams and datagrams that came.", _of("bytes_received")),
    Metric("sent", "bytes", "Bytes of streams and datagrams that left.", _of("bytes_sent")),
    Metric("enters", "", "System calls of the ring.", _of("enters")),
    Metric("overflows", "", "Calls that found the completion queue too small.", _of("overflows")),
    Metric("no_buffers", "", "Receives for which no buffer was left.", _of("no_buffers")),
)
#: These are of the moment.
MOMENTARY = (
    Metric("connections", "", "Open connections and pipes.", _of("streams")),
    Metric("datagram_sockets", "", "Open datagram sockets.", _of("datagrams")),
    Metric("operations_in_flight", "", "Operations in flight, the loop's own polls among them.", _of("in_flight")),
    Metric("callbacks_ready", "", "Callbacks that were ready when the tick began.", _of("ready")),
    Metric("buffers", "", "Receive buffers of the loop's groups.", _of("buffers")),
    Metric("buffers_lent", "", "Receive buffers that are lent.", _of("buffers_lent")),
)
#: Histograms, by their key in the numbers.
HISTOGRAMS = {
    "lag": Metric("lag", "seconds", "How late callbacks, timers and completions ran.", _of("callbacks")),
    "tick_lengths": Metric("tick", "seconds", "Time between two sleeps of the loop.", _of("ticks")),
}
SLOWEST = Metric("slowest_callback", "seconds", "The longest call of each slow callback.", _of("ticks"))
#: The upper bounds of a histogram's buckets but for the last, in seconds.
BOUNDS_S = tuple(bound_ns / _NS_PER_S for bound_ns in BOUNDS_NS)


class LoopSource:
    """Reads the numbers of loops, from any thread.  It keeps no loop alive, and passes over closed ones.

    Args:
        loops: the loops by the names that tell their metrics apart.  A loop that does not measure yet begins to.
    """

    def __init__(self, loops: Mapping[str, EventLoop]) -> None:
        self._loops: dict[str, weakref.ref[EventLoop]] = {}
        for name, loop in loops.items():
            self.add(name, loop)

    def add(self, name: str, loop: EventLoop) -> None:
        """Look at one more loop, in the place of another one of this name.

        Raises:
            RuntimeError: the loop is closed.
        """
        if loop.statistics()["measured"] is None:
            loop.start_measuring()
        self._loops[name] = weakref.ref(loop)

    def remove(self, name: str) -> None:
        """Look at a loop no more, which goes on to measure.

        Raises:
            KeyError: there is no loop of this name.
        """
        del self._loops[name]

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each loop's name, and its numbers: those of `Measured` and the counters of its ring."""
        for name, reference in list(self._loops.items()):
            loop = reference()
            meter = None if loop is None else loop._meter
            if meter is not None and meter.counts:
                numbers = meter.read()
                yield name, {**numbers, **dict(zip(COUNTERS, numbers["ring"], strict=False))}


def cumulative(histogram: dict[str, Any]) -> list[int]:
    """Return, for each bucket of a histogram, how many durations were in it or in one before."""
    total = 0
    return [total := total + count for count in histogram["counts"]]
