"""What the kernel refuses a process of its own: files beyond its limit of size, and files of somebody else."""

import os
import random
from pathlib import Path

import pytest

from tests.children import script

CONTENT = random.Random(3).randbytes(300_000)

pytestmark = [
    pytest.mark.parametrize("loop", ["asyncio:SelectorEventLoop", "uringloop:EventLoop"]),
]

_COMMON = """
import asyncio, errno, importlib, os, resource, sys
from pathlib import Path
from uringloop import files

folder = sys.argv[1]
module, _, name = sys.argv[2].partition(":")
loop_factory = getattr(importlib.import_module(module), name)

def path(name):
    return os.path.join(folder, name)

async def failure(call):
    try:
        await call
    except OSError as error:
        return errno.errorcode[error.errno], error.filename and os.path.relpath(error.filename, folder)
"""

_LIMITED = """
limit = int(sys.argv[3])
content = Path(folder, "large").read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

async def write(name, mode, buffering, data):
    options = {} if "b" in mode else {"encoding": "latin-1", "newline": ""}
    async with files.open(path(name), mode, buffering, **options) as file:
        await file.write(data)
        await file.write(data)

async def main():
    print(await failure(write("buffered", "wb", -1, content)))
    print(await failure(write("small", "wb", 10, content[:limit] + b"more")))
    print(await failure(write("appended", "ab", -1, content)))
    print(await failure(write("text", "w", -1, content.decode("latin-1"))))
    print(await failure(files.write_bytes(path("whole"), content)))
    print(await failure(files.replace_bytes(path("whole"), content)))
    print(await failure(files.copy_file(path("large"), path("copy"))))
    fd = os.open(path("whole"), os.O_RDWR)
    try:
        print(await failure(files.os.ftruncate(fd, limit + 1)))
        print(await failure(files.os.posix_fallocate(fd, 0, limit + 1)))
        print(await failure(files.os.pwrite(fd, b"beyond", limit)))
    finally:
        os.close(fd)

with asyncio.Runner(loop_factory=loop_factory) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("limit", [0, 100_000])
def test_file_size_limit(tmp_path: Path, loop: str, limit: int) -> None:
    """EFBIG; what is below the limit is written."""
    (tmp_path / "large").write_bytes(CONTENT)
    answer = script(_COMMON + _LIMITED, str(tmp_path), loop, str(limit))
    names = ["buffered", "small", "appended", "text", "whole", "whole", "large", None, None, None]
    assert answer.splitlines() == [str(("EFBIG", name)) for name in names]
    for name in names[:5]:
        assert (tmp_path / str(name)).read_bytes() == CONTENT[:limit]
    assert sorted(os.listdir(tmp_path)) == ["appended", "buffered", "copy", "large", "small", "text", "whole"]


_AS_NOBODY = """
def calls():
    yield files.open(path("secret"), "rb")
    yield files.open(path("secret"), "r+b")
    yield files.open(path("new"), "wb")
    yield files.read_bytes(path("secret"))
    yield files.write_bytes(path("new"), b"")
    yield files.replace_bytes(path("secret"), b"")
    yield files.copy_file(path("secret"), "/dev/null")
    yield files.os.unlink(path("secret"))
    yield files.os.mkdir(path("new"))
    yield files.os.rename(path("secret"), path("new"))
    yield files.os.symlink(path("secret"), path("new"))
    yield files.os.listdir(path("closed"))
    yield files.os.stat(path("closed/below"))
    yield files.read_bytes(path("closed/below"))

async def main():
    # By now all is there that the loop keeps, workers of the kernel and threads among it, with root's rights.
    assert await files.read_bytes(path("secret")) == b"secret"
    await asyncio.gather(*(files.os.stat(path("closed/below")) for _ in range(50)))
    await files.os.listdir(folder)
    os.seteuid(65534)
    for call in calls():
        print(await failure(call))
    os.seteuid(0)
    assert await files.read_bytes(path("closed/below")) == b"below"

with asyncio.Runner(loop_factory=loop_factory) as runner:
    runner.run(main())
"""


def test_files_of_somebody_else(tmp_path: Path, loop: str) -> None:
    """A process that gives up its rights has none of them left in the ring."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folder = tmp_path / "folder"
    (folder / "closed").mkdir(parents=True)
    (folder / "secret").write_bytes(b"secret")
    (folder / "closed" / "below").write_bytes(b"below")
    (folder / "secret").chmod(0o600)
    (folder / "closed").chmod(0o700)
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    answer = script(_COMMON + _AS_NOBODY, str(folder), loop)
    names = ["secret", "secret", "new", "secret", "new", "secret", "secret", "secret", "new", "secret", "secret"]
    names += ["closed", "closed/below", "closed/below"]
    assert answer.splitlines() == [str(("EACCES", name)) for name in names]
    assert (folder / "secret").read_bytes() == b"secret"
    assert sorted(os.listdir(folder)) == ["closed", "secret"]
