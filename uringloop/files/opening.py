"""From the arguments of `open` to an open file: modes, and the steps of opening.

Errors are the built-in's.  What is wrong with the arguments is told before anything happens.

A FIFO opened for reading waits for a writer, as open(2) does.  The kernel needs help with that: when it has the path
in its cache it tries as if O_NONBLOCK was given, which succeeds without a writer, and reads would find the end of the
file.
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
from ..operations.control import Nop
from ..operations.file import Close, Open, Ready
from ..ring import Descriptor, SqeFlag
from .cached import open_now, status_now
from .layers.hot import Context
from .layers.raw import FilePath, Mode, RawFile
from .layers.reading import BufferedReader
from .layers.text import TextFile, resolve
from .layers.waiting import made_in_thread
from .layers.writing import BufferedRandom, BufferedWriter

_F = TypeVar("_F")

AnyFile = RawFile | BufferedReader | BufferedWriter | BufferedRandom | TextFile
Opener = Callable[[Any, int], int]
#: st_mode, st_size and st_blksize of stat(2).
Status = tuple[int, int, int]

#: An open that takes longer than this waits for somebody else, such as a FIFO's reader, perhaps for ever.
_LONG_SECONDS = 0.05
_CREATES = os.O_CREAT | os.O_TRUNC
_CREATE = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND, "x": os.O_CREAT | os.O_EXCL}


class Opening(Context, Generic[_F]):
    """A file about to be opened: `await` it, or enter it with `async with`, which closes the file at the end.

    Args:
        opens: a function of the arguments, which returns a file or a coroutine for one.
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
    """What lies above the raw file.

    Attributes:
        buffering: size of the buffer in bytes, 0 for none, -1 for the usual one.
        line_buffering: of text; None if it depends on whether the file is a terminal.
        text_mode: the mode as it was given, None for a file of bytes.
        encoding: and errors and newline, of text.
    """

    buffering: int
    line_buffering: bool | None = False
    text_mode: str | None = None
    encoding: str = ""
    errors: str = ""
    newline: str | None = None


@functools.lru_cache(maxsize=256, typed=True)
def parse_mode(mode: str) -> Mode:
    """The mode that a string such as "rb+" means.

    Raises:
        TypeError: it is not a string.
        ValueError: the built-in `open` does not take it.
    """
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


def parse_layers(mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> Layers:
    """The layers for a mode and what was given beside it.

    Raises:
        LookupError: there is no such encoding.
        TypeError: a value of the wrong type.
        ValueError: the built-in does not take that together.
    """
    if "b" in mode:
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
    """The file that is opened, above the raw one."""
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
    """The path or descriptor to open.

    Raises:
        TypeError: it is neither.
        ValueError: a negative descriptor, a path with a null in it, or a path with closefd=False.
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


def open_at_once(
    submitter: Submitter, path: int | str | bytes, mode: Mode, opener: Opener | None
) -> tuple[Descriptor, Status] | None:
    """Open a file that is there, and whose path is cached; None if it takes more, or has to be made or emptied.

    What is wrong, if anything, is told by `open_raw`.
    """
    if isinstance(path, int) or opener is not None or mode.flags & _CREATES or not submitter.has_budget():
        return None
    return open_now(path, mode.flags)


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
        opened: what `open_at_once` has opened.

    Raises:
        OSError: as from open(2), with the filename; IsADirectoryError for a directory in any mode.
        io.UnsupportedOperation: updating what has no position, such as a FIFO, with buffers.
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
    """Run an `Open`.  One that takes long, as for a FIFO without a reader, does not use up the kernel's workers."""
    # Made by the timer: nearly all opens take less long, and pay for the timer alone.
    room: list[contextlib.ExitStack] = []
    timer = loop.call_later(_LONG_SECONDS, _make_room, loop, submitter, room)
    try:
        return int(await submitter.submit(operation))
    finally:
        timer.cancel()
        for stack in room:
            stack.close()


def _make_room(loop: asyncio.AbstractEventLoop, submitter: Submitter, room: list[contextlib.ExitStack]) -> None:
    """Allow one kernel worker more until the stack that this adds to `room` is closed."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_worker_more(submitter))
        # A new worker is made when something is queued, and not when the limit is raised.
        queued = Nop()
        queued.modifiers = SqeFlag.ASYNC
        stack.callback(loop.create_task(submitter.submit(queued)).cancel)
        room.append(stack.pop_all())


@contextlib.contextmanager
def _one_worker_more(submitter: Submitter) -> Iterator[None]:
    """Allow one kernel worker more, for an open that waits for another process."""
    try:
        _add_workers(submitter, 1)
    except OSError:  # Linux before 5.15 has no such limits
        yield
        return
    try:
        yield
    finally:
        # The ring may be gone if the open was given up when its loop was closed.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            _add_workers(submitter, -1)


def _add_workers(submitter: Submitter, count: int) -> None:
    bounded, _ = submitter.ring.set_worker_limits(0, 0)
    submitter.ring.set_worker_limits(bounded + count, 0)


def _status(descriptor: Descriptor) -> Status:
    """st_mode, st_size and st_blksize of a file that was opened just now: no server is asked again, nothing waits."""
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
    """Return when a FIFO has, or had, a writer.

    A second open in a worker waits as open(2) does.  But a writer that came and went before that began is not seen by
    it: what that one left, data or the end of the file, shows on the first descriptor.
    """
    again = f"/proc/self/fd/{descriptor.fd}"
    opened = loop.create_task(_open_and_close(submitter, again, flags))
    ready = loop.create_task(submitter.submit(Ready(descriptor, select.POLLIN)))
    try:
        await asyncio.wait((opened, ready), return_when=asyncio.FIRST_COMPLETED)
        if opened.done() and opened.exception() is not None:
            # There is no /proc: wait for data.
            await asyncio.wait((ready,))
    finally:
        opened.cancel()
        ready.cancel()
        await asyncio.gather(opened, ready, return_exceptions=True)


async def _open_and_close(submitter: Submitter, path: str, flags: int) -> None:
    with _one_worker_more(submitter):
        descriptor = Descriptor(await submitter.submit(Open(path, flags, in_worker=True)))
    await submitter.submit(Close(descriptor))
