"""Files for asyncio, as aiofiles has them, with every read and write in io_uring instead of a thread.

async with uringloop.files.open("data", "rb") as file:
    content = await file.read()
"""

import asyncio
import sys
from collections.abc import Generator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, overload

from .base import Submitter
from .modes import BinaryMode, ReadMode, TextMode, UpdateMode, WriteMode
from .opening import AnyFile, Layers, Opener, add_layers, open_at_once, open_raw, parse_layers, parse_mode, parse_path
from .raw import FilePath, Mode, RawFile
from .reading import BufferedReader
from .text import TextFile
from .writing import BufferedRandom, BufferedWriter

__all__ = [
    "BufferedRandom",
    "BufferedReader",
    "BufferedWriter",
    "RawFile",
    "TextFile",
    "open",
]

_F = TypeVar("_F", bound=AnyFile)


class Opening(Generic[_F]):
    """A file about to be opened: `await` it, or enter it with `async with`, which closes the file at the end."""

    __slots__ = ("_arguments", "_file", "_layers")

    def __init__(self, layers: Layers, **arguments: Any) -> None:
        self._layers = layers
        self._arguments = arguments
        self._file: _F | None = None

    def __await__(self) -> Generator[Any, Any, _F]:
        if self._file is None:
            self._file = yield from self._open(**self._arguments).__await__()
        return self._file

    async def _open(self, loop: Any, path: int | str | bytes, mode: Mode, **arguments: Any) -> Any:
        if loop is None:
            loop = asyncio.get_running_loop()
        submitter = _submitter(loop)
        sys.audit("open", path, mode.name, mode.flags)
        raw = open_at_once(loop, submitter, path, mode, **arguments)
        if raw is None:
            buffered = self._layers.buffering != 0
            raw = await open_raw(loop, submitter, path, mode, buffered=buffered, **arguments)
        return add_layers(loop, raw, self._layers)

    async def __aenter__(self) -> _F:
        if self._file is None:
            self._file = await self._open(**self._arguments)
        return self._file

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()


def _submitter(loop: Any) -> Submitter:
    if not hasattr(loop, "submit"):
        raise RuntimeError(
            f"uringloop.files needs uringloop's event loop, and this is {loop!r}; "
            "use uringloop.run(), or aiofiles on other loops"
        )
    submitter: Submitter = loop
    return submitter


@overload
def open(
    file: FilePath,
    mode: TextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[TextFile]: ...


@overload
def open(  # type: ignore[overload-overlap]  # 0 is an int, but it is not what the others get
    file: FilePath,
    mode: BinaryMode,
    buffering: Literal[0],
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[RawFile]: ...


@overload
def open(
    file: FilePath,
    mode: ReadMode,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[BufferedReader]: ...


@overload
def open(
    file: FilePath,
    mode: WriteMode,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[BufferedWriter]: ...


@overload
def open(
    file: FilePath,
    mode: UpdateMode,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[BufferedRandom]: ...


@overload
def open(
    file: FilePath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[Any]: ...


def open(
    file: FilePath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[Any]:
    """Open a file: `await open(...)`, or `async with open(...) as file`.  See the built-in `open` and `aiofiles.open`.

    Args:
        file: a path, or an open descriptor.
        mode: "r", "w", "a" or "x", also with "+", "b" or "t".
        buffering: 0 for none, which only files of bytes can do; 1 to flush text at each newline; a size in bytes; -1
            for one that adapts, up to 64 KiB.
        encoding: of text, by default the locale's.
        errors: what becomes of text that cannot be decoded or encoded; "strict" by default.
        newline: None to read all kinds of newlines as "\\n" and write os.linesep for it; "" to recognize all kinds;
            "\\n", "\\r" or "\\r\\n" to know only this kind.
        closefd: close the descriptor with the file; False only for a descriptor that was given.
        opener: called with the path and the flags in a thread, for a descriptor.
        loop: uringloop's event loop, by default the running one.
        executor: whose thread calls the opener.

    Returns:
        Something to be awaited or entered for a `TextFile`, `BufferedReader`, `BufferedWriter` or `BufferedRandom`, or
        without buffering a `RawFile`.

    Raises:
        LookupError, TypeError, ValueError: what the built-in raises for wrong arguments, here and at once.
        RuntimeError: when awaited; the event loop is not uringloop's.
        OSError: when awaited; as from open(2), with the filename.
    """
    flags = parse_mode(mode)
    layers = parse_layers(mode, buffering, encoding, errors, newline)
    path = parse_path(file, closefd)
    return Opening(
        layers, loop=loop, file=file, path=path, mode=flags, closefd=closefd, opener=opener, executor=executor
    )
