"""What `benchmarks.ring` measures, in a process of the contender's own.

    python -m benchmarks.ring_cases CONTENDER CASE SECONDS [FILE DEPTH]

prints how many were completed in a second.  The first tenth of the time is warm-up.
"""

import itertools
import json
import mmap
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 32
BLOCK_BYTES = 4096
_ENTRIES = 256
#: The reads of one `run_many`.
_READS = 1024
#: Random numbers take as long as a read does: so many are made before, and used again and again.
_NUMBERS = 1 << 16


def rate(turn: Callable[[], int], seconds: float) -> float:
    """How many a second, by turns that say how many they did."""
    done, begin, end = 0, time.perf_counter(), 0.0
    warm = begin + seconds / 10
    while (now := time.perf_counter()) < warm:
        turn()
    begin, end = now, now + seconds
    while now < end:
        done += turn()
        now = time.perf_counter()
    return done / (now - begin)


def _operations(case: str) -> Callable[[], int]:
    from uringloop.operations import Nop
    from uringloop.ring import Ring, SqPoll

    ring = Ring(_ENTRIES, sq_poll=SqPoll(idle_ms=1000) if case == "sqpoll" else None)
    count = 1 if case == "single" else BATCH
    operations = [Nop() for _ in range(count)]

    def turn() -> int:
        for operation in operations:
            ring.prepare(operation)
        return _take(ring, count, case)

    return turn


def _run_many(case: str) -> Callable[[], int]:
    from uringloop.operations import Nop
    from uringloop.ring import Ring, SqPoll

    ring = Ring(_ENTRIES, sq_poll=SqPoll(idle_ms=1000) if case == "sqpoll" else None)
    count = 1 if case == "single" else BATCH
    # Many in a call, as of a program that has them: the call waits for each batch.
    operations = [Nop() for _ in range(count * BATCH)]

    def turn() -> int:
        if any(ring.run_many(operations, count)):
            raise ValueError("a NOP has a result")
        return len(operations)

    return turn


def _by_hand(case: str) -> Callable[[], int]:
    from uringloop.ring import Ring, SqPoll

    ring = Ring(_ENTRIES, sq_poll=SqPoll(idle_ms=1000) if case == "sqpoll" else None)
    count = 1 if case == "single" else BATCH

    def turn() -> int:
        for _ in range(count):
            ring.get_sqe().prep_nop()
        return _take(ring, count, case)

    return turn


def _take(ring: object, count: int, case: str) -> int:
    ring.submit(wait_for=0 if case == "sqpoll" else count)  # type: ignore[attr-defined]
    left = count
    while left:
        if ring.peek_cqe() is not None:  # type: ignore[attr-defined]
            left -= 1
    return count


def _liburing(case: str) -> Callable[[], int]:
    import liburing as lib  # type: ignore[import-not-found, unused-ignore]

    ring = lib.Ring()
    modern = lib.IORING_SETUP_SINGLE_ISSUER | lib.IORING_SETUP_DEFER_TASKRUN
    lib.io_uring_queue_init(_ENTRIES, ring, lib.IORING_SETUP_SQPOLL if case == "sqpoll" else modern)
    cqe = lib.Cqe()
    count = 1 if case == "single" else BATCH

    def turn() -> int:
        for _ in range(count):
            lib.io_uring_prep_nop(lib.io_uring_get_sqe(ring))
        if case == "sqpoll":
            lib.io_uring_submit(ring)
        else:
            lib.io_uring_submit_and_wait(ring, count)
        left = count
        while left:
            lib.io_uring_wait_cqe(ring, cqe)
            ready = lib.io_uring_cq_ready(ring)
            for place in range(ready):
                if cqe[place].res != 0:
                    raise OSError(-cqe[place].res, "a NOP failed")
            lib.io_uring_cq_advance(ring, ready)
            left -= ready
        return count

    return turn


NOPS = {"operations": _operations, "run_many": _run_many, "by hand": _by_hand, "liburing": _liburing}


def block(number: int) -> bytes:
    """What is in each block of the file."""
    return number.to_bytes(8, "little") * (BLOCK_BYTES // 8)


def _numbers(path: Path) -> Iterator[int]:
    """Blocks of the file at random, without end."""
    blocks = path.stat().st_size // BLOCK_BYTES
    chance = random.Random(1)
    return itertools.cycle([chance.randrange(blocks) for _ in range(_NUMBERS)])


def read_rate(path: Path, direct: bool, depth: int, seconds: float, many: bool = False) -> float:
    """Random reads of 4 KiB, as many in flight as `depth`, each of the right block.

    Args:
        many: by `Ring.run_many`; otherwise by a loop over completions.
    """
    from uringloop.ring import Ring

    fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    with open(fd, "rb", buffering=0), Ring(_ENTRIES) as ring:
        turn = _many_reads(ring, fd, _numbers(path), depth) if many else _reads(ring, fd, _numbers(path), depth)
        return rate(turn, seconds)


def _reads(ring: Any, fd: int, numbers: Iterator[int], depth: int) -> Callable[[], int]:
    from uringloop.operations import Read

    in_flight: dict[object, tuple[mmap.mmap, int]] = {}

    def read(buffer: mmap.mmap) -> None:
        number = next(numbers)
        in_flight[ring.prepare(Read(fd, buffer, number * BLOCK_BYTES))] = buffer, number

    def turn() -> int:
        # Those that have completed, which the next ones are submitted with.
        ring.submit(wait_for=1)
        done = 0
        while (completion := ring.peek_cqe()) is not None:
            buffer, number = in_flight.pop(completion.operation)
            _check(completion.result(), buffer, number)
            read(buffer)
            done += 1
        return done

    for _ in range(depth):
        read(mmap.mmap(-1, BLOCK_BYTES))
    return turn


def _many_reads(ring: Any, fd: int, numbers: Iterator[int], depth: int) -> Callable[[], int]:
    from uringloop.operations import Read

    buffers = [mmap.mmap(-1, BLOCK_BYTES) for _ in range(_READS)]

    def turn() -> int:
        chosen = list(itertools.islice(numbers, _READS))
        reads = (Read(fd, buffer, number * BLOCK_BYTES) for buffer, number in zip(buffers, chosen, strict=True))
        for size_bytes, buffer, number in zip(ring.run_many(reads, depth), buffers, chosen, strict=True):
            _check(size_bytes, buffer, number)
        return _READS

    return turn


def _check(size_bytes: int, buffer: mmap.mmap, number: int) -> None:
    if size_bytes != BLOCK_BYTES or buffer[:8] != number.to_bytes(8, "little"):
        raise ValueError(f"block {number} is not what was written")


def main() -> None:
    contender, case, seconds, *more = sys.argv[1:]
    if more:
        many = contender == "uringloop run_many"
        print(json.dumps(read_rate(Path(more[0]), case == "direct", int(more[1]), float(seconds), many)))
    else:
        print(json.dumps(rate(NOPS[contender](case), float(seconds))))
    sys.stdout.flush()
    # The ring that is still open is the kernel's to end.
    os._exit(0)


if __name__ == "__main__":
    main()
