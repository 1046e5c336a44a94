"""What a test may have left behind: descriptors of the process, and what is still going on in a loop."""

import asyncio
import contextlib
import os
import resource
from typing import Any

#: How long a loop may need to report what it was told to cancel.  It is never waited for when all is well.
_SETTLE_SECONDS = 3


def open_descriptors() -> dict[int, str]:
    """The open descriptors of this process, and what each of them is; those of the running loop's ring are made now."""
    with contextlib.suppress(RuntimeError):
        getattr(asyncio.get_running_loop(), "backend", None)
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # The directory that was being listed.
            continue
    return descriptors


def size_bytes() -> int:
    """The address space of this process, by /proc/self/statm (proc(5))."""
    return _memory_bytes(0)


def resident_bytes() -> int:
    """The memory of this process that is in RAM, by /proc/self/statm (proc(5))."""
    return _memory_bytes(1)


def _memory_bytes(field: int) -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[field]) * resource.getpagesize()


def left_over(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """What is not over yet: tasks but the running one, operations, streams, datagram sockets, lent buffers.

    Empty when all is quiet.
    """
    left: dict[str, Any] = {}
    if hasattr(loop, "statistics"):
        left = {name: loop.statistics()[name] for name in ("in_flight", "streams", "datagrams", "buffers_lent")}
    left["tasks"] = asyncio.all_tasks(loop) - {asyncio.current_task()}
    return {name: value for name, value in left.items() if value}


async def settle() -> dict[str, Any]:
    """Let the loop finish what was just told to end: tasks, cancels, connections that close.

    Returns:
        What is left over all the same.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE_SECONDS
    # A callback scheduled by a callback: a few turns also where nothing is counted.
    for _ in range(5):
        await asyncio.sleep(0)
    # There is no event for "nothing is in flight".
    while left_over(loop) and loop.time() < deadline:
        await asyncio.sleep(0.001)
    return left_over(loop)
