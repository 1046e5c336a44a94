"""From the arguments of `open` to an open file: modes, and the steps of opening.

Errors are those of the built-in `open`.  Wrong arguments raise before anything happens.

A FIFO opened for reading waits for a writer, as open(2) does.  The kernel needs help with that.  If it has the path in
its cache, it tries first as if O_NONBLOCK was given, which succeeds without a writer.  A read would then find the end
of the file.
"""

import asyncio
import contextlib
import errno
import fcntl
import functools
import io
import operator
import os
import select
import stat
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..companion import Submitter
from ..immortal import keep
from ..operations.compiled import Nop
from ..operations.file import Close, Open, Ready
from ..ring import Descriptor, SqeFlag
from .layers.cached import status_now
from .layers.opening_base import OpeningBase
from .layers.raw import RawFile
from .layers.reading import BufferedReader
from .layers.text import TextFile, resolve
from .layers.unlocked import FilePath, Mode
from .layers.waiting import made_in_thread
from .layers.writing import BufferedRandom, BufferedWriter

_F = TypeVar("_F")

AnyFile = RawFile | BufferedReader | BufferedWriter | BufferedRandom | TextFile
Opener = Callable[[Any, int], int]
#: st_mode, st_size in bytes and st_blksize in bytes of stat(2).
Status = tuple[int, int, int]

#: An open that takes longer waits for another process, such as a FIFO's reader, perhaps for ever.
_LONG_SECONDS = 0.05
#: Of a mode that makes or empties the file.
CREATES = os.O_CREAT | os.O_TRUNC
#: Those that were asked for, of a few hundred that there are.
_modes: dict[str, Mode] = {}
_CREATE = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND, "x": os.O_CREAT | os.O_EXCL}


class Opening(OpeningBase, Generic[_F]):
    """A file about to be opened: `await` opens it; `async with` opens it, and closes it at the end.

    Args:
        opens: a function that returns a file, or a coroutine for one.
        arguments: the function's arguments.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __init__(self, opens: Callable[..., _F | Coroutine[Any, Any, _F]], *arguments: Any) -> None: ...

        def __await__(self) -> Generator[Any, Any, _F]: ...

        def __aenter__(self) -> Coroutine[Any, Any, _F]: ...

        def __aexit__(
            self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
        ) -> Coroutine[Any, Any, None]: ...

    async def _keep(self, opening: Coroutine[Any, Any, _F]) -> _F:
        self._file = file = await opening
        return file

    @property
    def _obj(self) -> _F | None:
        """The file, by its name in aiofiles; None before it is open and after the end."""
        file: _F | None = self._file
        return file


@dataclass(frozen=True)
class Layers:
    """The layers above the raw file.

    Attributes:
        buffering: size of the buffer in bytes, 0 for none, -1 for the usual one.
        line_buffering: whether text is flushed at each newline; None if only that of a terminal is.
        text_mode: the mode as `open` was given it, None for a file of bytes.
        encoding: the encoding's name, of text.
        errors: the error handler's name, of text.
        newline: None, "", "\\n", "\\r" or "\\r\\n", of text.
    """

    buffering: int
    line_buffering: bool | None = False
    text_mode: str | None = None
    encoding: str = ""
    errors: str = ""
    newline: str | None = None


def parse_mode(mode: str) -> Mode:
    """Return the mode that a string such as "rb+" means.

    Raises:
        TypeError: mode is not a string.
        ValueError: the built-in `open` does not take this mode.
    """
    # A cache of functools has a lock, for which threads would wait.
    return _modes.get(mode) or _modes.setdefault(mode, keep(_parsed_mode(mode)))


def _parsed_mode(mode: str) -> Mode:
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    letters = set(mode)
    if letters - set("rwaxbt+") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"t", "b"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    what = letters & set("rwax")
    if len(what) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    return _binary_mode(what.pop(), "+" in letters)


_USUAL_LAYERS = keep(Layers(-1))


def parse_layers(mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> Layers:
    """Return the layers for these arguments of `open`.

    Raises:
        LookupError: there is no such encoding.
        TypeError: an argument has the wrong type.
        ValueError: the built-in `open` does not take these arguments together.
    """
    if "b" in mode:
        if type(buffering) is int and buffering == -1 and encoding is errors is newline is None:
            return _USUAL_LAYERS
        layers = _binary_layers(buffering, encoding, errors, newline)
        if buffering == 1:
            message = (
                "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        return layers
    if not operator.index(buffering):
        raise ValueError("can't have unbuffered text I/O")
    _check_strings(encoding, errors, newline)
    encoding, errors = resolve(io.text_encoding(encoding, 3), errors, newline)
    lines = True if buffering == 1 else None if buffering < 0 else False
    return Layers(buffering if buffering > 1 else -1, lines, mode, encoding, errors, newline)


@functools.lru_cache(maxsize=256, typed=True)
def _binary_layers(buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> Layers:
    _check_strings(encoding, errors, newline)
    for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if value is not None:
            raise ValueError(f"binary mode doesn't take {'a' if name == 'newline' else 'an'} {name} argument")
    size = operator.index(buffering)
    return Layers(-1 if size == 1 else max(size, -1))


def _check_strings(encoding: str | None, errors: str | None, newline: str | None) -> None:
    for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"open() argument {name!r} must be str or None, not {type(value).__name__}")


def add_layers(loop: asyncio.AbstractEventLoop, raw: RawFile, layers: Layers) -> AnyFile:
    """Return the file with these layers above the raw file."""
    if not layers.buffering:
        return raw
    mode = raw.mode_flags
    kind = BufferedWriter if not mode.readable else BufferedRandom if mode.writable else BufferedReader
    buffer = kind(loop, raw, layers.buffering)
    if layers.text_mode is None:
        return buffer
    lines = raw.is_terminal if layers.line_buffering is None else layers.line_buffering
    return TextFile(loop, buffer, layers.encoding, layers.errors, layers.newline, lines, layers.text_mode)


def _binary_mode(what: str, updating: bool) -> Mode:
    readable = what == "r" or updating
    writable = what != "r" or updating
    access = os.O_RDWR if updating else os.O_RDONLY if readable else os.O_WRONLY
    # io.FileIO called it "rb+" before Python 3.15.
    name = "r" if what == "w" and updating and sys.version_info < (3, 15) else what
    return Mode(access | _CREATE[what], readable, writable, what == "a", f"{name}b{'+' if updating else ''}")


def parse_path(file: FilePath, closefd: bool) -> int | str | bytes:
    """Return the path or descriptor to open.

    Raises:
        TypeError: file is neither.
        ValueError: the descriptor is negative, the path has a null byte, or a path comes with closefd=False.
    """
    if isinstance(file, int):
        if file < 0:
            raise ValueError("negative file descriptor")
        return file
    path = file if type(file) is str else os.fspath(file)
    if (b"\0" if isinstance(path, bytes) else "\0") in path:  # type: ignore[operator]  # each with its own kind
        raise ValueError("embedded null byte")
    if not closefd:
        raise ValueError("Cannot use closefd=False with file name")
    return path


async def open_raw(
    loop: asyncio.AbstractEventLoop,
    submitter: Submitter,
    path: int | str | bytes,
    mode: Mode,
    file: FilePath,
    buffered: bool,
    closefd: bool,
    opener: Opener | None,
    executor: Executor | None,
    opened: tuple[Descriptor, Status] | None,
) -> RawFile:
    """Open a file, or take over an open one.

    Args:
        loop: the event loop of the file.
        submitter: takes the operations.
        path: the path or descriptor, see `parse_path`.
        mode: see `parse_mode`.
        file: the path or descriptor that `open` was given.
        buffered: whether a buffer comes above the raw file.
        closefd: whether closing the file closes the descriptor.
        opener: a function that opens the path, called in a thread; None for open(2).
        executor: provides that thread; None means the loop's own executor.
        opened: the result of `open_now`, or None.

    Raises:
        OSError: as from open(2), with the filename; IsADirectoryError for a directory in any mode.
        io.UnsupportedOperation: a buffered file to be read and written has no position, as a FIFO.
    """
    if opened is not None:
        descriptor = opened[0]
    elif isinstance(path, int):
        descriptor = Descriptor(path, path, owned=False)
    elif opener is not None:
        call = functools.partial(_call_opener, opener, path, mode.flags)
        descriptor = await made_in_thread(loop, executor, call, Descriptor.close)
    else:
        descriptor = Descriptor(await _open(loop, submitter, Open(path, mode.flags)), path)
    try:
        status = _status(descriptor) if opened is None else opened[1]
        if stat.S_ISDIR(status[0]):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if stat.S_ISFIFO(status[0]) and not mode.writable and not isinstance(path, int) and opener is None:
            await _wait_for_writer(loop, submitter, descriptor, mode.flags)
        given = isinstance(path, int)
        direct = (given or opener is not None) and bool(fcntl.fcntl(descriptor.fd, fcntl.F_GETFL) & os.O_DIRECT)
        raw = RawFile(loop, submitter, descriptor, status, mode, file, given, direct)
        if mode.readable and mode.writable and buffered and not raw.can_seek:
            raw.drop()
            raise io.UnsupportedOperation("File or stream is not seekable.")
    except (Exception, asyncio.CancelledError):
        if descriptor.owned:
            await submitter.submit(Close(descriptor))
        raise
    descriptor.owned = closefd
    return raw


async def _open(loop: asyncio.AbstractEventLoop, submitter: Submitter, operation: Open) -> int:
    """Run an `Open` and return the descriptor; add a kernel worker if it takes long, as for a FIFO without a reader."""
    # The timer fills it.  Nearly all opens take less time, and pay for the timer alone.
    room: list[contextlib.ExitStack] = []
    timer = loop.call_later(_LONG_SECONDS, _make_room, loop, submitter, room)
    try:
        return int(await submitter.submit(operation))
    finally:
        timer.cancel()
        for stack in room:
            stack.close()


def _make_room(loop: asyncio.AbstractEventLoop, submitter: Submitter, room: list[contextlib.ExitStack]) -> None:
    """Allow one kernel worker more, until the caller closes the stack that this adds to `room`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_worker_more(submitter))
        # The kernel makes a new worker when an operation is queued, and not when the limit is raised.
        queued = Nop()
        queued.modifiers = SqeFlag.ASYNC
        stack.callback(loop.create_task(submitter.submit(queued)).cancel)
        room.append(stack.pop_all())


@contextlib.contextmanager
def _one_worker_more(submitter: Submitter) -> Iterator[None]:
    """Allow one more kernel worker, for an open that waits for another process."""
    try:
        _add_workers(submitter, 1)
    except OSError:  # Linux before 5.15 has no such limits
        yield
        return
    try:
        yield
    finally:
        # The ring may be gone: closing the loop gives the open up.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            _add_workers(submitter, -1)


def _add_workers(submitter: Submitter, count: int) -> None:
    bounded, _ = submitter.ring.set_worker_limits(0, 0)
    submitter.ring.set_worker_limits(bounded + count, 0)


def _status(descriptor: Descriptor) -> Status:
    """Return the status of a file that was opened just now, without asking a server again, and without waiting."""
    try:
        return status_now(descriptor.fd)
    except OSError as error:
        error.filename = descriptor.filename
        raise


def _call_opener(opener: Opener, path: str | bytes, flags: int) -> Descriptor:
    fd = opener(path, flags | os.O_CLOEXEC)
    if not isinstance(fd, int):
        raise TypeError("expected integer from opener")
    if fd < 0:
        raise ValueError(f"opener returned {fd}")
    os.set_inheritable(fd, False)
    return Descriptor(fd, path)


async def _wait_for_writer(
    loop: asyncio.AbstractEventLoop, submitter: Submitter, descriptor: Descriptor, flags: int
) -> None:
    """Wait until a FIFO has, or had, a writer.

    A second open in a kernel worker waits as open(2) does.  It does not see a writer that came and went before it
    began.  But the data or the end of the file that such a writer left shows on the first descriptor.
    """
    again = f"/proc/self/fd/{descriptor.fd}"
    opened = loop.create_task(_open_and_close(submitter, again, flags))
    ready = loop.create_task(submitter.submit(Ready(descriptor, select.POLLIN)))
    try:
        await asyncio.wait((opened, ready), return_when=asyncio.FIRST_COMPLETED)
        if opened.done() and opened.exception() is not None:
            # Without /proc, wait for data.
            await asyncio.wait((ready,))
    finally:
        opened.cancel()
        ready.cancel()
        await asyncio.gather(opened, ready, return_exceptions=True)


async def _open_and_close(submitter: Submitter, path: str, flags: int) -> None:
    with _one_worker_more(submitter):
        descriptor = Descriptor(await submitter.submit(Open(path, flags, in_worker=True)))
    await submitter.submit(Close(descriptor))
