"""`replace_bytes` and `replace_text`: the old content or the new, whatever happens meanwhile, a loss of power included.

Another file in the same folder is written, synced and given the name, and the folder synced.  These four steps go to
the kernel at once, as a chain of which each link begins when the one before it has ended well.  What comes before them
(finding the file that the path means, its permissions, opening) is one trip to a thread.
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
from ..operations.file import Fsync, Write
from ..operations.path import Path, Rename
from ..ring import Opcode
from .layers.encoding import encoded
from .layers.waiting import in_thread, made_in_thread
from .permissions import first_mode, permissions_of

__all__ = ["replace_bytes", "replace_text"]

#: In one link: the kernel writes no more than a little less than 2 GiB at a time.
_PIECE_BYTES = 1 << 30
#: Longer chains than this would not fit into the smallest queues.
_PIECES = 4
_OPCODES = {Opcode.WRITE, Opcode.FSYNC, Opcode.RENAMEAT}
#: What audit hooks hear for no folder.
_NO_FOLDER = -1


async def replace_bytes(path: Path, data: Any, *, durable: bool = True) -> int:
    """Make these bytes the content of a file in one step: who opens it finds the old content or the new, and no other.

    A file that is there keeps its mode and, as far as the process may give them, owner, group and access control list.
    At no moment does the new content have more readers than the file had.  Of a symbolic link the target is replaced.

    Args:
        path: of the file.
        data: the bytes.
        durable: return when the content and the name are on the disk; then they survive a loss of power as well.

    Returns:
        The number of bytes.

    Raises:
        OSError: with the path as filename; the old content is still there, unless it was the folder that could not be
            synced.
        asyncio.CancelledError: the old content is there, or the new.
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
        # The other file is nobody's business.
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
    """Make this text the content of a file in one step, as `replace_bytes`; returns the number of its characters."""
    await replace_bytes(path, encoded(data, encoding, errors, newline), durable=durable)
    return len(data)


@dataclass
class _Other:
    """The file that is going to be the new one.

    Attributes:
        path: where it is.
        target: what it is to be called.
        fd: of the file.
        folder_fd: of the folder if that is to be synced; else -1, and the file is not synced either.
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
            # It has the right name by now.
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
    """Write, sync, rename, sync: in one chain, unless there is more to write than is written at a time."""
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
            # A write wrote less than there was: another one will say why, if there is a reason.
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
