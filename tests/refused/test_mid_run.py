"""System calls refused while a loop runs, as by a sandbox that is entered late: everything ends, with an error."""

import os
import time

import pytest

from tests.children import script
from tests.kernel import needs

from .seccomp import _ARCHITECTURES

pytestmark = pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine")

each_error = pytest.mark.parametrize("error", ["EAGAIN", "EBUSY", "EINTR", "EPERM"])

PREPARED = """
import asyncio, errno, os, sys, uringloop
from tests.refused import seccomp
from uringloop.operations import Read, Timeout
from uringloop.ring import Ring
error = getattr(errno, sys.argv[1])
source, sink = os.pipe()
buffer = bytearray(4)

def must_raise(function):
    try:
        function()
    except OSError as raised:
        assert isinstance(raised, uringloop.RingUnavailableError) or raised.errno == error, raised
    else:
        raise AssertionError("no error")
"""

LOOP = """
loop = uringloop.EventLoop(sleep=sys.argv[2], spin_ns=0)
async def begin():
    global task
    task = asyncio.create_task(loop.submit(Read(source, buffer)))
    await asyncio.sleep(0.001)
loop.run_until_complete(begin())
seccomp.refuse(error, seccomp.ENTER)
"""

HELD = """
assert loop.is_closed()
try:
    buffer.extend(b"more")
except BufferError:
    print("held")
"""


def ended(source: str, *arguments: str) -> str:
    """Run it; it must end long before a test would be given up."""
    begin = time.monotonic()
    answer = script(PREPARED + source, *arguments)
    assert time.monotonic() - begin < 30
    return answer


@each_error
@pytest.mark.parametrize("sleep", ["ring", "selector"])
@needs("io_uring")
def test_a_loop_closes(error: str, sleep: str) -> None:
    """What the kernel may still write to is left to it."""
    assert ended(LOOP + "task._log_destroy_pending = False\nmust_raise(loop.close)" + HELD, error, sleep) == "held\n"


@each_error
@pytest.mark.parametrize("sleep", ["ring", "selector"])
@needs("io_uring")
def test_a_run_ends(error: str, sleep: str) -> None:
    source = (
        LOOP
        + """
async def main():
    await loop.submit(Read(source, bytearray(4)))
task._log_destroy_pending = False
waiting = loop.create_task(main())
waiting._log_destroy_pending = False
must_raise(lambda: loop.run_until_complete(waiting))
must_raise(loop.close)
"""
    )
    assert ended(source + HELD, error, sleep) == "held\n"


@each_error
@needs("io_uring")
def test_a_runner_ends(error: str) -> None:
    source = """
async def main():
    task = asyncio.create_task(asyncio.get_running_loop().submit(Read(source, buffer)))
    task._log_destroy_pending = False
    asyncio.current_task()._log_destroy_pending = False
    await asyncio.sleep(0)
    seccomp.refuse(error, seccomp.ENTER)
    await task
must_raise(lambda: uringloop.run(main(), spin_ns=0))
print("ended")
"""
    assert ended(source, error) == "ended\n"


@each_error
@needs("io_uring")
def test_a_ring_by_hand_ends(error: str) -> None:
    source = """
ring = Ring(8)
ring.prepare(Read(source, buffer))
ring.submit()
seccomp.refuse(error, seccomp.ENTER)
must_raise(lambda: ring.wait_cqe())
must_raise(ring.close)
assert ring.closed
try:
    buffer.extend(b"more")
except BufferError:
    print("held")
"""
    assert ended(source, error) == "held\n"


@each_error
@needs("io_uring")
def test_a_companion_ends(error: str) -> None:
    source = """
from uringloop import files
async def main():
    file = await files.open("/dev/zero", "rb")
    await file.read(1)
    await file.close()
loop = asyncio.SelectorEventLoop()
loop.run_until_complete(main())
companion = loop._uringloop_companion
async def begin():
    task = asyncio.create_task(companion.submit(Read(source, buffer)))
    task._log_destroy_pending = False
    await asyncio.sleep(0.001)
loop.run_until_complete(begin())
seccomp.refuse(error, seccomp.ENTER)
must_raise(loop.close)
"""
    assert ended(source + HELD, error) == "held\n"


@needs("io_uring")
def test_a_storm_of_signals_is_no_refusal() -> None:
    """They interrupt every wait, for longer than a refusal is borne."""
    source = """
import signal
heard = 0
def hear(*_):
    global heard
    heard += 1
signal.signal(signal.SIGALRM, hear)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
async def main():
    await asyncio.sleep(4)
uringloop.run(main(), spin_ns=0)
with Ring(8) as ring:
    assert ring.run(Timeout(10**9)) is True
signal.setitimer(signal.ITIMER_REAL, 0)
assert heard > 1000, heard
print("ended")
"""
    assert ended(source, "EINTR") == "ended\n"


CHILD = """
async def main():
    seccomp.refuse(error, *{numbers})
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import os; os._exit(7)")
    code = await asyncio.wait_for(process.wait(), 20)
    killed = await asyncio.create_subprocess_exec("sleep", "100")
    killed.kill()
    return code, await asyncio.wait_for(killed.wait(), 20)
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
print(*uringloop.run(main()))
"""


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "EACCES"])
def test_a_child_is_waited_for_without_waitid(error: str) -> None:
    assert ended(CHILD.format(numbers="(seccomp.WAITID,)"), error) == "7 -9\n"


def test_a_child_of_which_nothing_can_be_learnt() -> None:
    lines = ended(CHILD.format(numbers="(seccomp.WAITID, seccomp.WAIT4)"), "EPERM").splitlines()
    assert lines[-1] == "255 255"
    assert "exit status cannot be read (Operation not permitted): will report returncode 255" in lines[0]
