"""`replace_bytes` and `replace_text`: a file has the old content or the new, whatever happens, even a loss of power.

Four steps replace the content: write another file in the same folder, sync it, give it the name, and sync the folder.
They go to the kernel at once, as a chain in which each link begins when the one before has ended well.  One trip to a
thread comes before: resolve the path, look up the permissions, and open the file.
"""

import asyncio
import errno
import functools
import os
import secrets
import sys
from dataclasses import dataclass
from typing import Any

from ..companion import Submitter, submitter
from ..operations import ChainError, Operation
from ..operations.compiled import Write
from ..operations.file import Fsync
from ..operations.path import Path, Rename
from ..ring import Opcode
from .layers.encoding import encoded
from .layers.waiting import in_thread, made_in_thread
from .permissions import first_mode, permissions_of

__all__ = ["replace_bytes", "replace_text"]

#: Of one link: the kernel writes a little less than 2 GiB at a time at most.
_PIECE_BYTES = 1 << 30
#: A longer chain would not fit into the smallest queues.
_PIECES = 4
_OPCODES = {Opcode.WRITE, Opcode.FSYNC, Opcode.RENAMEAT}
#: The descriptor that audit hooks get for no folder.
_NO_FOLDER = -1


async def replace_bytes(path: Path, data: Any, *, durable: bool = True) -> int:
    """Replace the content of a file in one step: an open finds the old content or the new, and no other.

    An existing file keeps its mode and, as far as the process may give them, owner, group and access control list.  At
    no moment does the new content have more readers than the file had.  For a symbolic link, its target is replaced.

    Args:
        path: of the file, which is made if it does not exist.
        data: the bytes, a buffer in one piece.
        durable: whether to return only when content and name are on the disk, where they survive a loss of power.

    Returns:
        The number of bytes.

    Raises:
        OSError: with the path as filename; the old content is still there, unless syncing the folder failed.
        asyncio.CancelledError: the file has the old content, or the new.
    """
    view = memoryview(data).cast("B")
    loop = asyncio.get_running_loop()
    ring = submitter(loop)
    try:
        other = await made_in_thread(loop, None, functools.partial(_prepare, path, durable), _Other.undo)
        try:
            if ring is None or not ring.opcodes >= _OPCODES:
                await in_thread(loop, None, _finish_blocking, other, view)
            else:
                sys.audit("os.rename", other.path, other.target, _NO_FOLDER, _NO_FOLDER)
                await _finish(ring, other, view)
        except BaseException:
            await in_thread(loop, None, other.undo)
            raise
        await in_thread(loop, None, other.close)
    except OSError as error:
        # The name of the other file is an internal matter.
        error.filename, error.filename2 = os.fspath(path), None
        raise
    return len(view)


async def replace_text(
    path: Path,
    data: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *,
    durable: bool = True,
) -> int:
    """Replace the content of a text file in one step; see `replace_bytes`, and `open` for encoding, errors and newline.

    Returns:
        The number of characters.
    """
    await replace_bytes(path, encoded(data, encoding, errors, newline), durable=durable)
    return len(data)


@dataclass
class _Other:
    """The other file, which gets the new content.

    Attributes:
        path: its path.
        target: its path in the end.
        fd: its descriptor.
        folder_fd: the descriptor of the folder; -1 if neither the folder nor the file is to be synced.
    """

    path: bytes
    target: bytes
    fd: int
    folder_fd: int = -1

    def close(self) -> None:
        for fd in (self.fd, self.folder_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self.folder_fd = -1

    def undo(self) -> None:
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            # The file has its final name by now.
            pass
        finally:
            self.close()


def _prepare(path: Path, durable: bool) -> _Other:
    target = os.fsencode(os.path.realpath(path))
    folder, name = os.path.split(target)
    permissions = permissions_of(target)
    other = os.path.join(folder, b".%.200s.%s" % (name, secrets.token_hex(8).encode()))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    made = _Other(other, target, os.open(other, flags, first_mode(permissions)))
    try:
        if permissions is not None:
            permissions.give_to(made.fd)
        if durable:
            made.folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except BaseException:
        made.undo()
        raise
    return made


async def _finish(ring: Submitter, other: _Other, view: memoryview) -> None:
    """Write, sync, rename and sync in one chain; first write in chains of their own if there is too much for one."""
    written = 0
    while True:
        ends = range(written, len(view), _PIECE_BYTES)[:_PIECES]
        chain: list[Operation] = [Write(other.fd, view[start : start + _PIECE_BYTES], start) for start in ends]
        if written + len(chain) * _PIECE_BYTES >= len(view):
            chain += _links_to_the_name(other)
        try:
            await ring.submit_chain(chain)
        except ChainError as error:
            if error.errno is not None:
                raise OSError(error.errno, os.strerror(error.errno)) from None
            # A write was short: the next one reports the reason, if there is one.
            count = error.results[error.failed]
            if not count:
                raise OSError(errno.EIO, "a write wrote nothing") from None
            written += error.failed * _PIECE_BYTES + count
        else:
            if isinstance(chain[-1], Write):
                written += len(chain) * _PIECE_BYTES
            else:
                return


def _links_to_the_name(other: _Other) -> list[Operation]:
    rename = Rename(other.path, other.target)
    return [rename] if other.folder_fd < 0 else [Fsync(other.fd), rename, Fsync(other.folder_fd)]


def _finish_blocking(other: _Other, view: memoryview) -> None:
    while view:
        view = view[os.write(other.fd, view) :]
    if other.folder_fd >= 0:
        os.fsync(other.fd)
    os.replace(other.path, other.target)
    if other.folder_fd >= 0:
        os.fsync(other.folder_fd)
