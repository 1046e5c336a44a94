"""Any sequence of calls on a file of ours and on one of the standard library: every answer and every byte the same."""

import asyncio
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import uringloop
from uringloop import files
from uringloop.files.layers.reading import BufferedReader
from uringloop.files.layers.text import TextFile
from uringloop.files.layers.writing import BufferedRandom, BufferedWriter

LAYERS = {
    "r": (io.BufferedReader, BufferedReader),
    "w": (io.BufferedWriter, BufferedWriter),
    "+": (io.BufferedRandom, BufferedRandom),
}
MODES = ["r", "w", "a", "x", "r+", "w+", "a+", "x+"]
#: Before Python 3.13 the standard library's read1 of an updated file, by which text is read, forgets what was written.
TEXT_MODES = MODES if sys.version_info >= (3, 13) else MODES[:4]
SIZES = st.sampled_from([0, 1, 2, 3, 5, 7, 8, 9, 10, 16, 30, 100])
BUFFERS = st.sampled_from([1, 2, 3, 7, 8, 10, 16, 64, 1000])
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "shift_jis", "utf-32", "utf-7"]
BYTES = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"\0", b"some words", b"\xff"]), max_size=12).map(
    b"".join
)
TEXT = st.lists(
    st.sampled_from(
        ["\n", "\r", "\r\n", "a", "\x85", "\x0b", "longer", "\ufeff", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\u3042"]
    ),
    max_size=12,
).map("".join)
ENCODABLE = str.maketrans("", "", "\ufeff\u3042\x85\xe9")


def layer_of(mode: str, ours: bool) -> Any:
    return LAYERS["+" if "+" in mode else "r" if mode == "r" else "w"][ours]


class Files(RuleBasedStateMachine):
    """One file twice."""

    buffer_size = 1 << 30

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.paths = [Path(self.folder.name, name) for name in ("theirs", "ours")]
        self.theirs: Any = None
        self.iterated = False
        self.ours: Any = None

    def start(
        self, content: bytes, mode: str, open_theirs: Callable[[Path], Any], open_ours: Callable[[Path], Any]
    ) -> None:
        if "x" not in mode:
            for path in self.paths:
                path.write_bytes(content)
        self.theirs = open_theirs(self.paths[0])
        self.ours = self.loop.run_until_complete(open_ours(self.paths[1]))

    def teardown(self) -> None:
        try:
            if self.theirs is not None:
                theirs = self.outcome(self.theirs.close)
                assert self.outcome(self.ours.close) == theirs
                self.compare_bytes()
        finally:
            self.folder.cleanup()

    def outcome(self, call: Callable[..., Any], *arguments: Any) -> Any:
        async def awaited() -> Any:
            answer = call(*arguments)
            return await answer if hasattr(answer, "__await__") else answer

        try:
            return self.loop.run_until_complete(awaited())
        except (StopIteration, StopAsyncIteration):
            return StopIteration
        except RuntimeError as error:
            if not isinstance(error.__cause__, StopIteration | StopAsyncIteration):
                raise
            # What becomes of it in a coroutine.
            return StopIteration
        except Exception as error:
            return type(error), getattr(error, "errno", None)

    def both(self, name: str, *arguments: Any) -> Any:
        theirs = self.outcome(getattr(self.theirs, name), *arguments)
        ours = self.outcome(getattr(self.ours, name), *arguments)
        assert (ours, type(ours)) == (theirs, type(theirs)), f"{name}{arguments}: {ours!r}, not {theirs!r}"
        self.compare_positions()
        return ours

    def both_into(self, name: str, size: int) -> None:
        answers = []
        for file in (self.theirs, self.ours):
            space = bytearray(size)
            answers.append((self.outcome(getattr(file, name), space), space))
        assert answers[1] == answers[0], (name, size)

    def compare_positions(self) -> None:
        pass

    def compare_bytes(self) -> None:
        theirs, ours = (path.read_bytes() for path in self.paths)
        assert ours == theirs

    @rule(size=st.one_of(SIZES, st.none(), st.just(-1)))
    def read(self, size: int | None) -> None:
        if size is None and isinstance(self.theirs, io.BufferedWriter):
            return  # an error either way, but not the same in all versions
        self.both("read", size)

    @rule(size=st.one_of(SIZES, st.none(), st.just(-1)))
    def readline(self, size: int | None) -> None:
        self.both("readline", size)

    @rule()
    def iterate(self) -> None:
        theirs, ours = self.outcome(self.theirs.__next__), self.outcome(self.ours.__anext__)
        assert ours == theirs, f"iteration: {ours!r}, not {theirs!r}"
        self.iterated = True

    @rule(hint=st.one_of(SIZES, st.none(), st.just(-1)))
    def readlines(self, hint: int | None) -> None:
        self.both("readlines", hint)
        self.iterated = True

    @rule(size=st.one_of(SIZES, st.none()))
    def truncate(self, size: int | None) -> None:
        self.end_iteration()
        self.both("truncate", size)
        self.compare_bytes()

    @rule()
    def flush(self) -> None:
        self.end_iteration()
        self.both("flush")
        self.compare_bytes()

    def end_iteration(self) -> None:
        """Before a flush, after which the standard library tells positions in text again, but not the right ones."""
        if self.iterated and isinstance(self.theirs, io.TextIOWrapper):
            self.both("seek", 0, os.SEEK_END)
            self.iterated = False

    @rule()
    def tell(self) -> None:
        self.both("tell")

    @rule()
    def questions(self) -> None:
        for name in ("readable", "writable", "seekable", "isatty"):
            self.both(name)
        assert self.ours.closed == self.theirs.closed
        assert self.ours.mode == self.theirs.mode
        assert str(self.ours.name) == str(self.theirs.name).replace("theirs", "ours")

    @precondition(lambda self: not self.theirs.closed)
    @rule(rarely=st.integers(0, 9))
    def close(self, rarely: int) -> None:
        if rarely == 0:
            self.both("close")
            self.compare_bytes()


class BytesFiles(Files):
    def write_both(self, name: str, data: Any) -> None:
        theirs, ours = (self.outcome(getattr(file, name), data) for file in (self.theirs, self.ours))
        assert ours == theirs, f"{name}: {ours!r}, not {theirs!r}"
        if max(map(len, data) if name == "writelines" else [len(data)], default=0) >= self.buffer_size:
            # What just fits into the buffer is written at once or not, depending on the version.
            self.both("flush")
        self.compare_positions()

    def compare_positions(self) -> None:
        theirs, ours = self.outcome(self.theirs.tell), self.outcome(self.ours.tell)
        assert ours == theirs, f"position: {ours!r}, not {theirs!r}"

    @rule(data=BYTES)
    def write(self, data: bytes) -> None:
        self.write_both("write", data)

    @rule(data=BYTES)
    def write_bytearray(self, data: bytes) -> None:
        self.write_both("write", bytearray(data))

    @rule(lines=st.lists(BYTES, max_size=3))
    def writelines(self, lines: list[bytes]) -> None:
        self.write_both("writelines", lines)

    @rule(wrong=st.sampled_from(["text", 5, None, [1]]))
    def write_wrong(self, wrong: Any) -> None:
        self.both("write", wrong)

    @rule(size=SIZES)
    def readinto(self, size: int) -> None:
        self.both_into("readinto", size)

    @rule(offset=st.integers(-20, 120), whence=st.sampled_from([0, 1, 2, 0, 1, 2, 3, 9]))
    def seek(self, offset: int, whence: int) -> None:
        self.both("seek", offset, whence)


class RawFiles(BytesFiles):
    """`RawFile` and `io.FileIO`."""

    @initialize(content=BYTES, mode=st.sampled_from(MODES))
    def open(self, content: bytes, mode: str) -> None:
        self.start(content, mode, lambda path: io.FileIO(path, mode), lambda path: _opened(path, mode))
        # Asked for the first time after a seek that failed, it says no.
        assert self.theirs.seekable()

    @rule()
    def readall(self) -> None:
        self.both("readall")


class BufferedFiles(BytesFiles):
    """`BufferedReader`, `BufferedWriter` and `BufferedRandom` of both."""

    @initialize(content=BYTES, mode=st.sampled_from(MODES), size=BUFFERS)
    def open(self, content: bytes, mode: str, size: int) -> None:
        self.buffer_size = size

        async def open_ours(path: Path) -> Any:
            return layer_of(mode, ours=True)(self.loop, await _opened(path, mode), size)

        self.start(content * 3, mode, lambda path: layer_of(mode, ours=False)(io.FileIO(path, mode), size), open_ours)

    @rule(size=st.one_of(SIZES, st.just(-1)))
    def read1(self, size: int) -> None:
        if isinstance(self.theirs, io.BufferedRandom):
            # Theirs forgets to, and what is buffered goes to where the read ended.
            self.both("flush")
        self.both("read1", size)

    @precondition(lambda self: hasattr(self.theirs, "peek"))
    @rule()
    def peek(self) -> None:
        self.both("peek")

    @rule(size=SIZES)
    def readinto1(self, size: int) -> None:
        self.both_into("readinto1", size)


class AdaptingFiles(BytesFiles):
    """The size of the buffer left to us: what is left open by the standard library may differ."""

    @initialize(content=BYTES, mode=st.sampled_from(["r", "w", "r+", "w+"]), times=st.sampled_from([1, 100, 5000]))
    def open(self, content: bytes, mode: str, times: int) -> None:
        async def open_ours(path: Path) -> Any:
            return await files.open(path, mode + "b")

        self.start(content * times, mode, lambda path: io.open(path, mode + "b"), open_ours)  # noqa: SIM115, UP020  # closed by a rule

    @rule(size=st.sampled_from([500, 4096, 5000, 70_000]))
    def read_more(self, size: int) -> None:
        self.both("read", size)

    @rule(size=st.sampled_from([500, 4096, 5000, 70_000]))
    def write_more(self, size: int) -> None:
        self.both("write", bytes(size))

    @rule(offset=st.integers(-20_000, 120_000), whence=st.sampled_from([0, 1, 2]))
    def seek_further(self, offset: int, whence: int) -> None:
        self.both("seek", offset, whence)

    @precondition(lambda self: hasattr(self.theirs, "peek") and not self.theirs.closed)
    @rule()
    def peek(self) -> None:
        theirs, ours = self.outcome(self.theirs.peek), self.outcome(self.ours.peek)
        if isinstance(theirs, bytes):
            assert theirs.startswith(ours) or ours.startswith(theirs)
            assert bool(ours) == bool(theirs)
        else:
            assert ours == theirs


class TextFiles(Files):
    """`TextFile` and `io.TextIOWrapper`, in all encodings and with all newlines."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.cookies = [0]

    @initialize(
        text=TEXT,
        times=st.sampled_from([1, 3, 2000]),
        mode=st.sampled_from(TEXT_MODES),
        size=BUFFERS,
        encoding=st.sampled_from(ENCODINGS),
        errors=st.sampled_from(["strict", "replace", "surrogateescape", "ignore"]),
        newline=st.sampled_from([None, "", "\n", "\r", "\r\n"]),
        line_buffering=st.booleans(),
        write_through=st.booleans(),
        garbage=st.sampled_from([b"", b"", b"", b"\xff", b"\x81", b"\xc3"]),
    )
    def open(
        self,
        text: str,
        times: int,
        mode: str,
        size: int,
        encoding: str,
        errors: str,
        newline: str | None,
        line_buffering: bool,
        write_through: bool,
        garbage: bytes,
    ) -> None:
        content = (text * times).encode(encoding, "replace") + garbage

        def open_theirs(path: Path) -> Any:
            below = layer_of(mode, ours=False)(io.FileIO(path, mode), size)
            file = io.TextIOWrapper(below, encoding, errors, newline, line_buffering, write_through)
            file.mode = mode  # type: ignore[misc]
            return file

        async def open_ours(path: Path) -> Any:
            below = layer_of(mode, ours=True)(self.loop, await _opened(path, mode), size)
            return TextFile(self.loop, below, encoding, errors, newline, line_buffering, mode, write_through)

        self.start(content, mode, open_theirs, open_ours)

    @rule(text=TEXT)
    def write(self, text: str) -> None:
        self.both("write", text)

    @rule(text=TEXT)
    def write_a_lot(self, text: str) -> None:
        self.both("write", text.translate(ENCODABLE) * 1000)

    @rule(lines=st.lists(TEXT, max_size=3))
    def writelines(self, lines: list[str]) -> None:
        self.both("writelines", lines)

    @rule(wrong=st.sampled_from([b"bytes", 5, None]))
    def write_wrong(self, wrong: Any) -> None:
        self.both("write", wrong)

    @rule()
    def remember(self) -> None:
        cookie = self.both("tell")
        if isinstance(cookie, int):
            self.cookies.append(cookie)

    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        self.both("seek", data.draw(st.sampled_from(self.cookies)))

    @rule(
        offset=st.sampled_from([0, 0, 0, 1, -1, 7]),
        whence=st.sampled_from([0, 1, 2, 3]),
    )
    def seek(self, offset: int, whence: int) -> None:
        if not (whence == 0 and offset > 0):
            self.both("seek", offset, whence)

    @rule()
    def text_questions(self) -> None:
        for name in ("encoding", "errors", "line_buffering", "write_through"):
            assert getattr(self.ours, name) == getattr(self.theirs, name)
        assert self.ours.newlines == self.theirs.newlines


async def _opened(path: Path, mode: str) -> Any:
    return await files.open(os.fspath(path), mode + "b", 0)


_SETTINGS = settings(
    max_examples=int(os.environ.get("URINGLOOP_EXAMPLES", "100")),
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("machine", [RawFiles, BufferedFiles, AdaptingFiles, TextFiles])
def test_as_the_standard_library(machine: type[Files]) -> None:
    with contextlib.closing(uringloop.EventLoop()) as loop:
        run_state_machine_as_test(lambda: machine(loop), settings=_SETTINGS)  # type: ignore[no-untyped-call]
