"""`call_soon_threadsafe` from many threads to many loops: nothing is lost, and each thread's order is kept."""

import asyncio
import threading
from dataclasses import dataclass, field

from tests.variants import LoopFactory

from .running import in_threads, loops_in_threads

#: A producer waits for the loops after so many calls: otherwise the calls that wait would fill the memory.
_AHEAD = 1000
_TIMEOUT_S = 60.0


@dataclass
class Received:
    """The calls that came to one loop.  Only its thread changes this."""

    last: dict[int, int] = field(default_factory=dict)
    count: int = 0
    out_of_order: int = 0

    def note(self, producer: int, number: int) -> None:
        self.out_of_order += number <= self.last.get(producer, -1)
        self.last[producer] = number
        self.count += 1


def call_from_threads(count: int, producers: int, loops: int, factory: LoopFactory) -> list[Received]:
    """Make count calls from so many threads to so many loops, and return what each loop was told.

    Raises:
        TimeoutError: a loop did not answer.
    """
    received = [Received() for _ in range(loops)]
    with loops_in_threads(loops, factory) as running:
        in_threads(
            [
                lambda number=number: _produce(number, count // producers, running, received)  # type: ignore[misc]
                for number in range(producers)
            ]
        )
    return received


def _produce(producer: int, count: int, loops: list[asyncio.AbstractEventLoop], received: list[Received]) -> None:
    for number in range(count):
        place = number % len(loops)
        loops[place].call_soon_threadsafe(received[place].note, producer, number)
        if number % _AHEAD == _AHEAD - 1 or number == count - 1:
            for loop in loops:
                reached = threading.Event()
                loop.call_soon_threadsafe(reached.set)
                if not reached.wait(_TIMEOUT_S):
                    raise TimeoutError(f"a loop has not answered for {_TIMEOUT_S} s, after {number} calls")
