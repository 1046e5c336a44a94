"""No thread is left for the kernel's workers: the error says so, and nothing takes itself for cancelled."""

import os
from pathlib import Path

import pytest

from tests.children import script
from tests.kernel import needs

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user; its own limit is none")

PREPARED = """
import asyncio, errno, os, sys
import concurrent.futures.thread
import uringloop, uringloop.files.layers.text
from tests.refused import unprivileged
from uringloop import files
from uringloop.operations import ChainError, Fsync, Nop, Read
from uringloop.ring import NoWorkerError, Ring
folder = sys.argv[1]
path = os.path.join(folder, "file")
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
unprivileged.become_nobody(processes=1)

def check(error):
    assert type(error) is NoWorkerError and error.errno == errno.EAGAIN, repr(error)
    assert "ulimit -u" in str(error), error

async def refused(awaitable, *filenames):
    try:
        await awaitable
    except OSError as error:
        check(error)
        assert (error.filename, error.filename2) == (filenames + (None, None))[:2]
    else:
        raise AssertionError("not refused")
"""

ON_EACH_LOOP = {
    "open": 'await refused(files.open(path + "2", "wb"), path + "2")',
    "make a folder": 'await refused(files.os.mkdir(folder + "/d"), folder + "/d")',
    "rename": 'await refused(files.os.rename(path, path + "2"), path, path + "2")',
    "stat": "await refused(files.os.stat(path), path)",
}
ON_OURS = {
    "submit": "await refused(asyncio.get_running_loop().submit(Fsync(fd)))",
    "many": "await refused(asyncio.get_running_loop().submit_many([Nop(), Fsync(fd)]))",
    "chain": """
    try:
        await asyncio.get_running_loop().submit_chain([Nop(), Fsync(fd), Nop(), Fsync(fd)])
    except ChainError as error:
        check(error.results[1])
        assert (error.failed, error.errno, error.cancelled) == (1, errno.EAGAIN, [2, 3]), (error, error.cancelled)
    else:
        raise AssertionError("not refused")
""",
    "what does not need one": """
    assert await asyncio.get_running_loop().submit(Nop(3)) == 3
""",
    "a cancelled task": """
    source, sink = os.pipe()
    task = asyncio.create_task(asyncio.get_running_loop().submit(Read(source, bytearray(1))))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
""",
}


def _run(folder: Path, body: str, loop: str) -> None:
    folder.chmod(0o777)
    run = "uringloop.run(main())" if loop == "uringloop" else "asyncio.run(main())"
    assert script(f"{PREPARED}\nasync def main():\n    {body}\n{run}\nprint('told')", str(folder)) == "told\n"


@pytest.mark.parametrize("loop", ["uringloop", "asyncio"])
@pytest.mark.parametrize("what", ON_EACH_LOOP)
@needs("io_uring")
def test_files_say_why(tmp_path: Path, what: str, loop: str) -> None:
    _run(tmp_path, ON_EACH_LOOP[what], loop)


@pytest.mark.parametrize("what", ON_OURS)
@needs("io_uring")
def test_operations_say_why(tmp_path: Path, what: str) -> None:
    _run(tmp_path, ON_OURS[what], "uringloop")


@needs("io_uring")
def test_a_ring_by_hand_says_why(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    source = """
with Ring(8) as ring:
    ring.prepare(Fsync(fd))
    try:
        ring.wait_cqe().result()
    except OSError as error:
        check(error)
        print("told")
"""
    assert script(PREPARED + source, str(tmp_path)) == "told\n"
