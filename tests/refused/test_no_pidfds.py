"""Children where pidfds are refused, as by older sandboxes: a thread waits for each, and signals go by process id."""

import os

import pytest

from tests.children import script
from tests.kernel import needs

from .seccomp import _ARCHITECTURES

pytestmark = pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine")

CHILDREN = """
import asyncio, errno, os, signal, subprocess, sys, uringloop
from tests.refused import seccomp

async def main():
    try:
        os.pidfd_open(os.getpid())
    except OSError as error:
        assert error.errno == errno.ENOSYS
    else:
        raise AssertionError("pidfds work")
    child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert await child.communicate(b"words") == (b"words", None)
    assert child.returncode == 0
    child = await asyncio.create_subprocess_shell("exit 3", preexec_fn=os.getpid)
    assert await child.wait() == 3
    child = await asyncio.create_subprocess_exec("sleep", "1000")
    child.terminate()
    assert await child.wait() == -signal.SIGTERM
    try:
        await asyncio.create_subprocess_exec("/nonexistent")
    except FileNotFoundError:
        print("over")

seccomp.refuse_pidfds(errno.ENOSYS)
with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend=sys.argv[1])) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("backend", [pytest.param("io_uring", marks=needs("io_uring")), "epoll"])
def test_children_start_end_and_get_signals(backend: str) -> None:
    assert script(CHILDREN, backend) == "over\n"
