"""Files for asyncio, as aiofiles has them, with every read and write in io_uring instead of a thread.

    async with uringloop.files.open("data", "rb") as file:
        content = await file.read()

So far: binary modes.  Text modes are refused with NotImplementedError.
"""

import asyncio
from collections.abc import Generator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, overload

from .buffered import BufferedFile, ByteFile, UnbufferedFile
from .opening import FilePath, Opener, open_raw, parse_buffering, parse_mode, parse_path

__all__ = ["BufferedFile", "UnbufferedFile", "open"]

_F = TypeVar("_F", bound=ByteFile)


class Opening(Generic[_F]):
    """A file about to be opened: `await` it, or enter it with `async with`, which closes the file at the end."""

    __slots__ = ("_arguments", "_file", "_kind")

    def __init__(self, kind: type[_F], arguments: dict[str, Any]) -> None:
        self._kind = kind
        self._arguments = arguments
        self._file: _F | None = None

    def __await__(self) -> Generator[Any, Any, _F]:
        if self._file is None:
            self._file = yield from self._open(**self._arguments).__await__()
        return self._file

    async def _open(self, loop: Any, file: FilePath, buffering: int, **arguments: Any) -> _F:
        if loop is None:
            loop = asyncio.get_running_loop()
        if not hasattr(loop, "submit"):
            raise RuntimeError(
                f"uringloop.files needs uringloop's event loop, and this is {loop!r}; "
                "use uringloop.run(), or aiofiles on other loops"
            )
        raw = await open_raw(loop, buffered=buffering != 0, **arguments)
        return self._kind(loop, raw, file, arguments["mode"], buffering)

    async def __aenter__(self) -> _F:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()


@overload
def open(
    file: FilePath,
    mode: str = "r",
    buffering: Literal[0] = ...,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> Opening[UnbufferedFile]: ...


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
) -> Opening[BufferedFile]: ...


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
        mode: "rb", "wb", "ab" or "xb", also with "+".  Text modes, which are the default as they are of the built-in,
            are not there yet.
        buffering: 0 for none, a size in bytes, or -1 for 64 KiB.
        encoding: None; as errors and newline it is for text.
        errors: None.
        newline: None.
        closefd: close the descriptor with the file; False only for a descriptor that was given.
        opener: called with the path and the flags in a thread, for a descriptor.
        loop: uringloop's event loop, by default the running one.
        executor: whose thread calls the opener.

    Returns:
        Something to be awaited or entered for a `BufferedFile`, or without buffering an `UnbufferedFile`.

    Raises:
        TypeError, ValueError: what the built-in raises for wrong arguments, here and at once.
        NotImplementedError: a text mode.
        RuntimeError: when awaited; the event loop is not uringloop's.
        OSError: when awaited; as from open(2), with the filename.
    """
    arguments = {
        "loop": loop,
        "file": file,
        "mode": parse_mode(mode, encoding, errors, newline),
        "buffering": parse_buffering(buffering),
        "path": parse_path(file, closefd),
        "closefd": closefd,
        "opener": opener,
        "executor": executor,
    }
    return Opening(BufferedFile if arguments["buffering"] else UnbufferedFile, arguments)
