"""`open`, and the standard streams; see `aiofiles.threadpool`, which gave this module its name.

`open` goes to a thread in two cases only: where io_uring is refused, and where a program has replaced `sync_open`.
aiofiles lets tests replace it.

The standard streams share their buffers with `print` and every other user of `sys.stdout`.  So they are not files of
the ring: threads call the methods of the standard objects.
"""

import asyncio
import builtins
import contextlib
import functools
import os
import sys
from concurrent.futures import Executor
from stat import S_ISREG
from typing import Any, Literal, overload

from ..companion import Submitter, submitter
from ..ring import Descriptor
from ..shielding import until_done
from . import wrapping
from .layers.cached import open_now
from .layers.raw import RawFile
from .layers.reading import BufferedReader
from .layers.text import TextFile
from .layers.threads import may_wait_for_ever, unjoined
from .layers.unlocked import FilePath, Mode
from .layers.writing import BufferedRandom, BufferedWriter
from .modes import BinaryMode, ReadMode, TextMode, UpdateMode, WriteMode
from .opening import (
    CREATES,
    Layers,
    Opener,
    Opening,
    Status,
    add_layers,
    open_raw,
    parse_layers,
    parse_mode,
    parse_path,
)
from .wrapping import (
    AiofilesContextManager,
    AsyncBufferedIOBase,
    AsyncBufferedReader,
    AsyncFileIO,
    AsyncIndirectBufferedIOBase,
    AsyncTextIndirectIOWrapper,
    AsyncTextIOWrapper,
)
from .wrapping import wrap_file as wrap

__all__ = [
    "AiofilesContextManager",
    "AsyncBufferedIOBase",
    "AsyncBufferedReader",
    "AsyncFileIO",
    "AsyncIndirectBufferedIOBase",
    "AsyncTextIOWrapper",
    "AsyncTextIndirectIOWrapper",
    "binary",
    "open",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "sync_open",
    "text",
    "utils",
    "wrap",
]

#: The built-in `open`.  Where a program replaces it here, `open` calls that in a thread.
sync_open: Any = builtins.open

#: By its submodules' names in aiofiles.
binary = text = utils = wrapping

# For `isinstance`.
AiofilesContextManager.register(Opening)
AsyncBufferedIOBase.register(BufferedWriter)
AsyncBufferedReader.register(BufferedReader)
AsyncBufferedReader.register(BufferedRandom)
AsyncFileIO.register(RawFile)
AsyncTextIOWrapper.register(TextFile)


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
        buffering: a size in bytes; 0 for no buffer, for files of bytes only; 1 to flush text at each newline; -1 for a
            size that adapts.  Then a read ahead begins with 4 KiB and grows to 128 KiB, or to a larger st_blksize.  The
            buffer of a file that is only written grows to 256 KiB.
        encoding: the name of the text's encoding, by default the locale's.
        errors: the name of the error handler for text that cannot be decoded or encoded, by default "strict".
        newline: None reads every kind of newline as "\\n" and writes os.linesep for it; "" recognizes every kind;
            "\\n", "\\r" or "\\r\\n" recognizes this kind alone.
        closefd: whether closing the file closes the descriptor; False only for a descriptor that was given.
        opener: a function of the path and the flags that returns a descriptor; called in a thread.
        loop: an event loop, by default the running one.
        executor: its threads call the opener, and do everything where there is no ring.

    Returns:
        An object to be awaited or entered.  It gives a `TextFile`, `BufferedReader`, `BufferedWriter` or
        `BufferedRandom`, or a `RawFile` without a buffer.

    Raises:
        LookupError, TypeError, ValueError: at once, as the built-in `open` for wrong arguments.
        RuntimeError: when awaited; the event loop ran in another thread, where operations are in flight.
        OSError: when awaited; as from open(2), with the filename.
    """
    given = (file, mode, buffering, encoding, errors, newline, closefd, opener)
    if sync_open is not builtins.open:
        return Opening(_open_in_thread, loop, executor, given)
    flags = parse_mode(mode)
    layers = parse_layers(mode, buffering, encoding, errors, newline)
    path = parse_path(file, closefd)
    return Opening(_open_here, loop, executor, given, flags, layers, path)


async def _open(
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
) -> Any:
    """Open a file, as `open`: aiofiles' coroutine function of this name."""
    layers = (buffering, encoding, errors, newline)
    return await open(file, mode, *layers, closefd, opener, loop=loop, executor=executor)


def _open_here(
    loop: asyncio.AbstractEventLoop | None,
    executor: Executor | None,
    given: tuple[Any, ...],
    mode: Mode,
    layers: Layers,
    path: int | str | bytes,
) -> Any:
    """Return the file if it can be opened at once, else a coroutine for it; None if the budget is spent."""
    if loop is None:
        loop = asyncio.get_running_loop()
    ring = submitter(loop)
    if ring is None:
        return _open_in_thread(loop, executor, given)
    file, *_, closefd, opener = given
    opened = None
    if isinstance(path, int) or opener is not None or mode.flags & CREATES:
        sys.audit("open", path, mode.name, mode.flags)
    elif ring.has_budget():
        sys.audit("open", path, mode.name, mode.flags)
        opened = open_now(path, mode.flags)
    else:
        return None
    if opened is None or not S_ISREG(opened[1][0]):
        return _open_by_ring(loop, ring, path, mode, file, layers, closefd, opener, executor, opened)
    return add_layers(loop, RawFile(loop, ring, *opened, mode, file, False, False), layers)


async def _open_by_ring(
    loop: asyncio.AbstractEventLoop,
    ring: Submitter,
    path: int | str | bytes,
    mode: Mode,
    file: FilePath,
    layers: Layers,
    closefd: bool,
    opener: Opener | None,
    executor: Executor | None,
    opened: tuple[Descriptor, Status] | None,
) -> Any:
    buffered = layers.buffering != 0
    raw = await open_raw(loop, ring, path, mode, file, buffered, closefd, opener, executor, opened)
    return add_layers(loop, raw, layers)


async def _open_in_thread(
    loop: asyncio.AbstractEventLoop | None, executor: Executor | None, given: tuple[Any, ...]
) -> Any:
    if loop is None:
        loop = asyncio.get_running_loop()
    if isinstance(given[0], int):
        # The descriptor is open, so nothing waits.  A cancel would leave a thread with a descriptor of the caller.
        return wrap(sync_open(*given), loop=loop, executor=executor)
    file = None
    if executor is None and sync_open is builtins.open:
        file = await _opened(loop.run_in_executor(None, _open_unless_it_waits, given))
    if file is None:
        own = executor is None and sync_open is builtins.open
        call = functools.partial(sync_open, *given)
        opening = asyncio.wrap_future(unjoined.submit(call)) if own else loop.run_in_executor(executor, call)
        file = await _opened(opening)
    return wrap(file, loop=loop, executor=executor)


def _open_unless_it_waits(given: tuple[Any, ...]) -> Any:
    """Return the file; None for a FIFO or a device, for which a thread may wait for ever."""
    with contextlib.suppress(OSError, TypeError, ValueError):  # open raises it
        if may_wait_for_ever(os.stat(given[0]).st_mode):
            return None
    return sync_open(*given)


async def _opened(opening: "asyncio.Future[Any]") -> Any:
    try:
        await until_done(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise
    return opening.result()


def _close_unwanted(opening: "asyncio.Future[Any]") -> None:
    """Close a file that was opened after the cancel.  It may be a FIFO, so nothing can wait for the opening."""
    if not opening.cancelled() and opening.exception() is None and opening.result() is not None:
        opening.result().close()


#: `sys.stdin`, looked up and called in a thread.
stdin = AsyncTextIndirectIOWrapper("sys.stdin", None, None, indirect=lambda: sys.stdin)
#: `sys.stdout`, looked up and called in a thread.
stdout = AsyncTextIndirectIOWrapper("sys.stdout", None, None, indirect=lambda: sys.stdout)
#: `sys.stderr`, looked up and called in a thread.
stderr = AsyncTextIndirectIOWrapper("sys.stderr", None, None, indirect=lambda: sys.stderr)
#: `sys.stdin.buffer`, looked up and called in a thread.
stdin_bytes = AsyncIndirectBufferedIOBase("sys.stdin.buffer", None, None, indirect=lambda: sys.stdin.buffer)
#: `sys.stdout.buffer`, looked up and called in a thread.
stdout_bytes = AsyncIndirectBufferedIOBase("sys.stdout.buffer", None, None, indirect=lambda: sys.stdout.buffer)
#: `sys.stderr.buffer`, looked up and called in a thread.
stderr_bytes = AsyncIndirectBufferedIOBase("sys.stderr.buffer", None, None, indirect=lambda: sys.stderr.buffer)
