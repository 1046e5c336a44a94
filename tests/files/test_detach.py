"""`detach`: the file goes to somebody who is not asynchronous, where it is and with all that was written."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from tests.variants import FILES
from uringloop import files

pytestmark = pytest.mark.asyncio(loop_factories=FILES)


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "w+b", "ab", "a+b", "r", "r+", "w", "w+", "a", "a+"])
async def test_as_the_standard_library(tmp_path: Path, mode: str) -> None:
    def data(text: str) -> Any:
        return text.encode() if "b" in mode else text

    ends = []
    for name in ("theirs", "ours"):
        path = tmp_path / name
        path.write_bytes(b"0123456789" * 10)
        file: Any = path.open(mode) if name == "theirs" else await files.open(path, mode)

        async def settled(result: Any) -> Any:
            return await result if hasattr(result, "__await__") else result

        if "r" in mode or "+" in mode:
            await settled(file.seek(3))
            if "b" in mode:
                await settled(file.read(4))
        if mode.strip("bt") != "r":
            await settled(file.write(data("new")))
        if mode == "rb" and name == "theirs":
            # The standard library leaves the raw file where the buffer had read ahead to.
            expected = file.tell()
            below = file.detach()
            below.seek(expected)
        else:
            below = file.detach()
        position = below.tell()
        with pytest.raises(ValueError, match="detached"):
            await settled(file.read(1) if below.readable() else file.write(data("")))
        with pytest.raises(ValueError, match="detached"):
            await settled(file.close())
        content = below.read(5) if below.readable() else None
        ends.append((type(below), position, content, below.mode))
        assert str(below.name).endswith(name)
        below.close()
        ends.append(path.read_bytes())
    assert ends[2:] == ends[:2]
    assert ends[0][0] in (io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)


async def test_the_descriptor_is_theirs_now(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    file = await files.open(tmp_path / "file", "rb")
    raw = file.detach()
    fd = raw.fileno()
    del file
    assert os.fstat(fd).st_size == 7
    raw.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
