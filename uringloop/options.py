"""`Options`: the arguments of a loop, checked before anything is opened, and the ring that they make."""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any, Literal

from .ring import Descriptor, LoopRing
from .ring.choosing import BackendChoice, Choice, check_choice, expected
from .ring.setup import Backend

Sleep = Literal["auto", "selector", "ring"]

#: About the time of falling asleep and waking up.
SPIN_NS = 50_000
BULK_STREAM_COUNT_MAX = 1 << 20
_SLEEPS = ("auto", "selector", "ring")
_BUFFERS_MAX = 32768
#: The first size of a completion queue that may grow.  Most loops never need more, and RLIMIT_MEMLOCK counts it.
_CQ_ENTRIES_FIRST = 1024
#: Whether a ring's queue can grow, by whether the ring does without deferred work; absent before the first trial.
_can_grow: dict[bool, bool] = {}
#: The numbers of buffers for datagrams, each 256 KiB of address space.
_DATAGRAM_BUFFER_COUNT = 64
_DATAGRAM_BUFFER_COUNT_MAX = 512


@dataclasses.dataclass(slots=True)
class Options:
    """The arguments of `EventLoop`; see there.

    Raises:
        ValueError: the way to sleep or the backend is unknown, or a number is out of range.
    """

    sleep: Sleep
    backend: BackendChoice
    sq_entries: int
    cq_entries: int
    buffer_count: int
    buffer_count_max: int
    buffer_size_bytes: int
    bulk_stream_count_max: int
    spin_ns: int
    without: frozenset[str]
    #: The backends on which these have made a ring.
    opened: set[Backend] = dataclasses.field(default_factory=set, init=False, compare=False)

    def __post_init__(self) -> None:
        if self.sleep not in _SLEEPS:
            raise ValueError(f"sleep must be one of {_SLEEPS}, not {self.sleep!r}")
        check_choice(self.backend)
        _check_count("buffer_count", self.buffer_count)
        _check_count("buffer_count_max", self.buffer_count_max)
        if self.buffer_size_bytes < 1:
            raise ValueError(f"buffer_size_bytes must be positive, not {self.buffer_size_bytes!r}")
        if self.bulk_stream_count_max < 0:
            raise ValueError(f"bulk_stream_count_max must not be negative, not {self.bulk_stream_count_max!r}")
        if self.spin_ns < 0:
            raise ValueError(f"spin_ns must not be negative, not {self.spin_ns!r}")

    def expect(self, choice: Choice) -> Backend | None:
        """Return the backend that a ring will have, if its making may wait until it is needed.

        None: the loop needs it now.  It is the first with these options or this choice, which may be refused; or the
        program asks for io_uring, and shall hear of a refusal before anything else.
        """
        backend = None if choice.asked == "io_uring" else expected(choice)
        return backend if backend in self.opened else None

    def open_ring(self, backend: Backend, *, enable: bool) -> tuple[LoopRing, Descriptor]:
        """Make a ring with the buffers of its streams, and a descriptor that tells of its completions.

        Both close with their last reference: an exception on the way to the loop leaves neither open.

        Raises:
            RingUnavailableError: the backend is io_uring, which cannot be used here.
            OSError: the backend is epoll, and no descriptor or no memory is left.
            ValueError: a name in `without` is no optional feature, or a queue would have no entry.
        """
        ring = self._open_ring(backend, enable)
        try:
            ring.open_buffers(self.buffer_count, self.buffer_size_bytes, max(self.buffer_count, self.buffer_count_max))
            descriptor = Descriptor(ring.open_descriptor())
            self.opened.add(backend)
            return ring, descriptor
        except BaseException:
            ring.close(only_watches=True)
            raise

    def _open_ring(self, backend: Backend, enable: bool) -> LoopRing:
        """Make the ring, with a completion queue that grows if the kernel can grow it."""
        without = self.without
        small = (
            backend == "io_uring"
            and self.cq_entries > _CQ_ENTRIES_FIRST
            and _can_grow.get("defer_taskrun" in without, True)
        )
        if small:
            ring = LoopRing(
                self.sq_entries, cq_entries=_CQ_ENTRIES_FIRST, without=without, enable=enable, backend=backend
            )
            if ring.allow_growth(self.cq_entries):
                return ring
            ring.close(only_watches=True)
            _can_grow["defer_taskrun" in without] = False
        return LoopRing(self.sq_entries, cq_entries=self.cq_entries, without=without, enable=enable, backend=backend)

    def datagram_buffer_counts(self) -> tuple[int, int]:
        """Return the first and the largest number of buffers for datagram sockets, powers of two."""
        return (
            min(self.buffer_count, _DATAGRAM_BUFFER_COUNT),
            min(max(self.buffer_count, self.buffer_count_max), _DATAGRAM_BUFFER_COUNT_MAX),
        )


def options_of(*arguments: Any, without: Collection[str]) -> Options:
    """Return the options with these arguments, in their order; the same object for the same arguments.

    Raises:
        ValueError: as of `Options`.
    """
    try:
        return _known(*arguments, frozenset(without))
    except TypeError:  # no key of a cache
        return _known.__wrapped__(*arguments, frozenset(without))


@functools.lru_cache(maxsize=64, typed=True)
def _known(*arguments: Any) -> Options:
    return Options(*arguments)


def _check_count(name: str, count: int) -> None:
    if count < 1 or count & (count - 1) or count > _BUFFERS_MAX:
        raise ValueError(f"{name} must be a power of two from 1 to {_BUFFERS_MAX}, not {count!r}")
