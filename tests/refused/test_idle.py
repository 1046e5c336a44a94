"""A ring that waits is idle: its CPU does not count as waiting for I/O, where the kernel can tell these apart."""

import os

import pytest

from tests.children import script
from uringloop.ring import Ring, RingUnavailableError

from .seccomp import _ARCHITECTURES

_NO_IOWAIT = 1 << 17  # IORING_FEAT_NO_IOWAIT, Linux 6.15


def _kernel_can() -> bool:
    try:
        with Ring(1) as ring:
            return bool(int(ring.features.kernel) & _NO_IOWAIT)
    except RingUnavailableError:
        return False


pytestmark = [
    pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine"),
    pytest.mark.skipif(not _kernel_can(), reason="this kernel counts every wait as I/O"),
]

WAITS = {
    "loop": "uringloop.run(asyncio.sleep(0.01), spin_ns=0)",
    "loop that spins": "uringloop.run(asyncio.sleep(0.01), spin_ns=1000)",
    "loop, polling its selector": "uringloop.run(asyncio.sleep(0.01), sleep='ring', spin_ns=0)",
    "loop that closes": """
loop = uringloop.EventLoop()
source, sink = os.pipe()
buffer = bytearray(1)
task = loop.create_task(loop.submit(Read(source, buffer)))
loop.run_until_complete(asyncio.sleep(0))
task.cancel()
loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
loop.submit_multishot(Timeout(10**6))
loop.close()
""",
    "companion": """
async def main():
    async with files.open("/dev/null", "rb") as file:
        await file.read(1)
    loop = asyncio.get_running_loop()
    operation = Timeout(10**7)
    await loop._uringloop_companion.submit(operation)
asyncio.run(main())
""",
    "ring by hand": """
with Ring(8) as ring:
    assert ring.run(Timeout(10**7)) is True
    ring.prepare(Timeout(10**6))
    ring.wait_cqe(10**9)
""",
}


@pytest.mark.parametrize("way", WAITS)
def test_a_wait_is_not_counted_as_io(way: str) -> None:
    """A filter kills the process at the first wait that is."""
    source = f"""
import asyncio, os
from tests.refused import seccomp
import uringloop
from uringloop import files
from uringloop.operations import Read, Timeout
from uringloop.ring import Ring
seccomp.kill_waits_for_io()
{WAITS[way]}
print("idle")
"""
    assert script(source) == "idle\n"
