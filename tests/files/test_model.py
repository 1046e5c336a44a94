"""The same random calls on a file of ours and on one of the standard library: every answer and every byte the same."""

import io
import os
import random
from pathlib import Path
from typing import Any

import pytest

from uringloop import files

from .conftest import Run

_SIZES = (0, 1, 2, 10, 100, 1000, 8192, 10_000, 65_536, 100_000)


_READING = ["read", "read", "readline", "readinto"]
_WRITING = ["write", "write", "write", "truncate"]
_ANY = ["seek", "tell", "flush"]


def _random_call(choice: random.Random, mode: str) -> tuple[str, tuple[Any, ...]]:
    size = choice.choice(_SIZES)
    reading = mode == "rb" or "+" in mode
    name = choice.choice(_ANY + _READING * reading + _WRITING * (mode != "rb"))
    match name:
        case "read":
            return name, choice.choice([(size,), (size,), (-1,), (None,), ()])
        case "readline":
            return name, choice.choice([(), (size,), (-1,)])
        case "readinto":
            return name, (size,)
        case "write":
            return name, (choice.randbytes(size),)
        case "seek":
            whence = choice.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
            return name, (size if whence == os.SEEK_SET else choice.choice([-size, 0, size]), whence)
        case "truncate":
            return name, choice.choice([(), (size,)])
        case _:
            return name, ()


def _expected(file: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        if name == "readinto":
            target = bytearray(*arguments)
            return file.readinto(target), bytes(target)
        return getattr(file, name)(*arguments)
    except (OSError, ValueError) as error:
        return type(error), getattr(error, "errno", None)


async def _answered(file: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        if name == "readinto":
            target = bytearray(*arguments)
            return await file.readinto(target), bytes(target)
        return await getattr(file, name)(*arguments)
    except (OSError, ValueError) as error:
        return type(error), getattr(error, "errno", None)


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b", "w+b", "a+b"])
def test_as_the_standard_library(run: Run, tmp_path: Path, mode: str, buffering: int) -> None:
    async def compare(seed: int) -> None:
        choice = random.Random(seed)
        content = b"\n".join(choice.randbytes(choice.choice(_SIZES)) for _ in range(5))
        ours_path, theirs_path = tmp_path / "ours", tmp_path / "theirs"
        for path in (ours_path, theirs_path):
            path.write_bytes(content)
        said = []
        with theirs_path.open(mode, buffering) as theirs:
            async with files.open(ours_path, mode, buffering) as ours:
                for _ in range(40):
                    name, arguments = _random_call(choice, mode)
                    said.append((name, [len(a) if isinstance(a, bytes) else a for a in arguments]))
                    if name == "write" and mode.startswith("a"):
                        # An appending file of the standard library says tell() as if it wrote where it was.
                        assert await ours.seek(0, os.SEEK_END) == theirs.seek(0, os.SEEK_END)
                    expected = _expected(theirs, name, arguments)
                    if name == "flush" and expected is None:
                        assert ours_path.stat().st_size == theirs_path.stat().st_size or await ours.flush() is None
                    assert await _answered(ours, name, arguments) == expected, (seed, said)
                    assert await ours.tell() == theirs.tell(), (seed, said)
        assert ours_path.read_bytes() == theirs_path.read_bytes(), (seed, said)

    async def main() -> None:
        for seed in range(25):
            await compare(seed)

    run(main())


def test_lines_as_the_standard_library(run: Run, tmp_path: Path) -> None:
    choice = random.Random(3)
    path = tmp_path / "lines"

    async def main() -> None:
        for _ in range(50):
            path.write_bytes(bytes(choice.choices(b"ab\r\n\0", k=choice.randrange(2000))))
            async with files.open(path, "rb", choice.choice([-1, 0, 5, 100])) as ours:
                assert [line async for line in ours] == list(io.BytesIO(path.read_bytes()))

    run(main())
