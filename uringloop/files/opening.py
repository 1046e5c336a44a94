"""From the arguments of `open` to an open file: modes, and the steps of opening.

Errors are the built-in's.  What is wrong with the arguments is told before anything happens.

A FIFO opened for reading waits for a writer, as open(2) does.  The kernel needs help with that: when it has the path
in its cache it tries as if O_NONBLOCK was given, which succeeds without a writer, and reads would find the end of the
file.
"""

import asyncio
import errno
import io
import os
import select
import stat
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..operations.file import Close, Descriptor, FileStatus, Fstat, Open, Ready
from .blocking import in_thread
from .raw import RawFile

if TYPE_CHECKING:
    from ..loop import EventLoop

FilePath = int | str | bytes | os.PathLike[str] | os.PathLike[bytes]
Opener = Callable[[Any, int], int]

_CREATE = {"r": 0, "w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND, "x": os.O_CREAT | os.O_EXCL}


@dataclass(frozen=True)
class Mode:
    """A binary mode.

    Attributes:
        flags: os.O_*.
        readable: and writable: what may be done.
        appending: every write goes to the end.
        name: as `io.FileIO.mode` says it.
    """

    flags: int
    readable: bool
    writable: bool
    appending: bool
    name: str


def parse_mode(mode: str, encoding: str | None, errors: str | None, newline: str | None) -> Mode:
    """The mode that a string such as "rb+" means.

    Raises:
        TypeError: it is not a string.
        ValueError: the built-in `open` does not take it, or takes no such argument beside it.
        NotImplementedError: it is a text mode.
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
    if "b" not in letters:
        raise NotImplementedError(f"text modes are not there yet: open with {mode.replace('t', '') + 'b'!r} and decode")
    for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if value is not None:
            raise ValueError(f"binary mode doesn't take {'a' if name == 'newline' else 'an'} {name} argument")
    return _binary_mode(what.pop(), "+" in letters)


def _binary_mode(what: str, updating: bool) -> Mode:
    readable = what == "r" or updating
    writable = what != "r" or updating
    access = os.O_RDWR if updating else os.O_RDONLY if readable else os.O_WRONLY
    # io.FileIO called it "rb+" before Python 3.15.
    name = "r" if what == "w" and updating and sys.version_info < (3, 15) else what
    return Mode(access | _CREATE[what], readable, writable, what == "a", f"{name}b{'+' if updating else ''}")


def parse_buffering(buffering: int) -> int:
    """The buffer's size in bytes: 0 for none, -1 for the usual one.  Line buffering is for text, and warns."""
    if not isinstance(buffering, int):
        raise TypeError(f"'{type(buffering).__name__}' object cannot be interpreted as an integer")
    if buffering == 1:
        message = "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        return -1
    return max(buffering, -1)


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
    path = os.fspath(file)
    if (b"\0" if isinstance(path, bytes) else "\0") in path:  # type: ignore[operator]  # each with its own kind
        raise ValueError("embedded null byte")
    if not closefd:
        raise ValueError("Cannot use closefd=False with file name")
    return path


async def open_raw(
    loop: "EventLoop",
    path: int | str | bytes,
    mode: Mode,
    buffered: bool,
    closefd: bool,
    opener: Opener | None,
    executor: Executor | None,
) -> RawFile:
    """Open a file, or take over an open one.

    Raises:
        OSError: as from open(2), with the filename; IsADirectoryError for a directory in any mode.
        io.UnsupportedOperation: updating what has no position, such as a FIFO, with buffers.
    """
    sys.audit("open", path, mode.name, mode.flags)
    if isinstance(path, int):
        descriptor = Descriptor(path, path, owned=False)
    elif opener is not None:
        descriptor = await in_thread(loop, executor, _call_opener, opener, path, mode.flags)
    else:
        descriptor = Descriptor(await loop.submit(Open(path, mode.flags)), path)
    try:
        status: FileStatus = await loop.submit(Fstat(descriptor))
        if stat.S_ISDIR(status.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if stat.S_ISFIFO(status.mode) and not mode.writable and not isinstance(path, int) and opener is None:
            await _wait_for_writer(loop, descriptor, mode.flags)
        raw = RawFile(loop, descriptor, status, mode.appending, shared=isinstance(path, int))
        if mode.readable and mode.writable and buffered and not raw.seekable:
            raise io.UnsupportedOperation("File or stream is not seekable.")
    except (Exception, asyncio.CancelledError):
        if descriptor.owned:
            await loop.submit(Close(descriptor))
        raise
    descriptor.owned = closefd
    return raw


def _call_opener(opener: Opener, path: str | bytes, flags: int) -> Descriptor:
    fd = opener(path, flags | os.O_CLOEXEC)
    if not isinstance(fd, int):
        raise TypeError("expected integer from opener")
    if fd < 0:
        raise ValueError(f"opener returned {fd}")
    os.set_inheritable(fd, False)
    return Descriptor(fd, path)


async def _wait_for_writer(loop: "EventLoop", descriptor: Descriptor, flags: int) -> None:
    """Return when a FIFO has, or had, a writer.

    A second open in a worker waits as open(2) does.  But a writer that came and went before that began is not seen by
    it: what that one left, data or the end of the file, shows on the first descriptor.
    """
    again = f"/proc/self/fd/{descriptor.fd}"
    opened = loop.create_task(_open_and_close(loop, again, flags))
    ready = loop.create_task(loop.submit(Ready(descriptor, select.POLLIN)))
    try:
        await asyncio.wait((opened, ready), return_when=asyncio.FIRST_COMPLETED)
        if opened.done() and opened.exception() is not None:
            # There is no /proc: wait for data.
            await asyncio.wait((ready,))
    finally:
        opened.cancel()
        ready.cancel()
        await asyncio.gather(opened, ready, return_exceptions=True)


async def _open_and_close(loop: "EventLoop", path: str, flags: int) -> None:
    descriptor = Descriptor(await loop.submit(Open(path, flags, in_worker=True)))
    await loop.submit(Close(descriptor))
