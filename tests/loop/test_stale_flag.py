"""The kernel may go on telling of work that the loop has run: the loop sleeps all the same, and nothing is lost.

The kernel queues work, and then sets a flag.  A loop that runs the work in between sees the flag stay until other work
comes.  Here the test sets the flag.
"""

import asyncio
import ctypes
import os
import re
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import needs
from tests.variants import RINGS

from .helpers import Recorder, facing_socket

pytestmark = [pytest.mark.asyncio(loop_factories=RINGS), needs("io_uring", "defer_taskrun")]

_IORING_SETUP = 425
_SIZE_OF_PARAMS = 120
_OFFSET_OF_FLAGS = 56
_TASKRUN = 4
#: Of a sleep: a few; of a loop that stays awake: thousands.
_MOST_ENTERS = 100


def tell_of_work() -> None:
    """Set the flag in each ring of this process (io_uring_setup(2), struct io_sqring_offsets)."""
    params = ctypes.create_string_buffer(_SIZE_OF_PARAMS)
    fd = ctypes.CDLL(None, use_errno=True).syscall(_IORING_SETUP, 1, params)
    assert fd >= 0
    os.close(fd)
    (offset,) = struct.unpack_from("I", params, _OFFSET_OF_FLAGS)
    mappings = re.findall(r"^(\w+)-\w+ rw-s 0+ .*\[io_uring\]$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert mappings
    for address in mappings:
        ctypes.c_uint32.from_address(int(address, 16) + offset).value |= _TASKRUN


def enters() -> int:
    loop: Any = asyncio.get_running_loop()
    return int(loop.statistics()["enters"])


async def test_an_idle_loop_sleeps() -> None:
    await asyncio.sleep(0.01)  # makes the ring
    tell_of_work()
    before = enters()
    await asyncio.sleep(0.1)
    assert enters() - before < _MOST_ENTERS


async def test_bytes_and_calls_of_threads_still_wake_it() -> None:
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    async with facing_socket(protocol) as (_, peer):
        before = enters()
        for number in range(1, 20):
            tell_of_work()
            called = loop.create_future()
            threading.Timer(0.002, loop.call_soon_threadsafe, (called.set_result, None)).start()
            await called
            tell_of_work()
            threading.Timer(0.002, peer.send, (b"x",)).start()
            await protocol.until_received(number)
        assert enters() - before < 20 * _MOST_ENTERS
