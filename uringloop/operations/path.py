"""Operations on names in folders: stat, rename, unlink, mkdir, symlink, link.

The kernel runs each of them in a worker.  An operation that has begun cannot be cancelled.  An abandoned one is waited
for, and the folder shows whether it happened.

Paths are str, bytes or PathLike, without null bytes.  A folder is the descriptor at which relative paths begin, or None
for the working directory.  Errors carry the paths in the form that `os` gives.
"""

import enum
import os
import struct

from ..ring import Dispatcher, Opcode, Pin, operation_error
from .base import Slot, file_index, made
from .emptying import close_made
from .operation import Operation

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_REMOVEDIR = 0x200
_AT_SYMLINK_FOLLOW = 0x400
_AT_NO_AUTOMOUNT = 0x800
_AT_EMPTY_PATH = 0x1000
_STATX_BASIC_STATS = 0x7FF
_STATX_ANSWER_BYTES = 256
#: struct statx after mask, blksize and attributes: nlink, uid, gid, mode, ino, size, blocks, four times, rdev, dev.
#: The times are seconds and nanoseconds: last access, birth, last change, last modification.
_STATX = struct.Struct("=4xI8xIIIH2xQQQ8xqI4xqI4xqI4xqI4xIIII")
#: struct open_how.
_OPEN_HOW = struct.Struct("=QQQ")
_NS_PER_S = 1_000_000_000
_NO_ID = 0xFFFFFFFF


def _pinned(path: Path) -> Pin:
    return Pin(os.fsencode(path) + b"\0")


def _folder(dir_fd: int | None) -> int:
    return _AT_FDCWD if dir_fd is None else dir_fd


class _PathOperation(Operation):
    """An operation on one path."""

    __slots__ = ("_pin", "filename")

    def __init__(self, path: Path, dir_fd: int | None = None) -> None:
        super().__init__(_folder(dir_fd))
        self._pin = _pinned(path)
        self.filename = os.fspath(path)  # type: ignore[misc]  # an instance's own, over the class's None


class _TwoPathOperation(_PathOperation):
    """An operation on two paths, both of which are in its errors."""

    __slots__ = ("_pin2", "filename2")

    def __init__(self, path: Path, path2: Path, dir_fd: int | None) -> None:
        super().__init__(path, dir_fd)
        self._pin2 = _pinned(path2)
        self.filename2 = os.fspath(path2)

    def error(self, res: int) -> BaseException:
        return operation_error(res, self.filename, self.filename2)


class Stat(_PathOperation):
    """statx(2) of a path or an open descriptor; its result is the `os.stat_result` that `os.stat` gives.

    Args:
        path: a path or a descriptor.
        dir_fd: the folder.
        follow_symlinks: a symbolic link stands for its target.
    """

    __slots__ = ("_answer", "_answer_pin", "_flags")
    opcode = Opcode.STATX

    def __init__(self, path: Path | int, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        self._flags = _AT_NO_AUTOMOUNT if follow_symlinks else _AT_NO_AUTOMOUNT | _AT_SYMLINK_NOFOLLOW
        if isinstance(path, int):
            super().__init__("", path)
            self._flags = _AT_EMPTY_PATH
            self.filename = path  # type: ignore[misc]  # see above
        else:
            super().__init__(path, dir_fd)
        self._answer = bytearray(_STATX_ANSWER_BYTES)
        self._answer_pin = Pin(self._answer, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._pin.address,
            _STATX_BASIC_STATS,
            self._answer_pin.address,
            self._flags,
        )

    def result(self, res: int, flags: int) -> os.stat_result:
        block_size, links, uid, gid, mode, inode, size, blocks, *times_and_devices = _STATX.unpack_from(self._answer)
        accessed_s, accessed_ns, _, _, changed_s, changed_ns, modified_s, modified_ns = times_and_devices[:8]
        rdev_major, rdev_minor, dev_major, dev_minor = times_and_devices[8:]
        times = ((accessed_s, accessed_ns), (modified_s, modified_ns), (changed_s, changed_ns))
        return os.stat_result(
            (
                mode,
                inode,
                os.makedev(dev_major, dev_minor),
                links,
                -1 if uid == _NO_ID else uid,
                -1 if gid == _NO_ID else gid,
                size,
                *(seconds for seconds, _ in times),
                # As CPython counts them, to the last bit.
                *(seconds + 1e-9 * nanoseconds for seconds, nanoseconds in times),
                *(seconds * _NS_PER_S + nanoseconds for seconds, nanoseconds in times),
                block_size,
                blocks,
                os.makedev(rdev_major, rdev_minor),
            )
        )


class RenameFlag(enum.IntFlag):
    """RENAME_* of renameat2(2)."""

    NOREPLACE = 1
    EXCHANGE = 2
    WHITEOUT = 4


class Rename(_TwoPathOperation):
    """renameat2(2); its result is None.  It replaces a file of the new name, unless the flags say otherwise."""

    __slots__ = ("_flags", "_to_folder")
    opcode = Opcode.RENAMEAT

    def __init__(
        self,
        source: Path,
        target: Path,
        source_dir_fd: int | None = None,
        target_dir_fd: int | None = None,
        flags: RenameFlag | int = 0,
    ) -> None:
        super().__init__(source, target, source_dir_fd)
        self._to_folder = _folder(target_dir_fd) % (1 << 32)
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._pin.address, self._to_folder, self._pin2.address, self._flags
        )

    def result(self, res: int, flags: int) -> None:
        return None


class Link(_TwoPathOperation):
    """linkat(2): another name for a file; its result is None.

    Args:
        follow_symlinks: a symbolic link stands for its target.
    """

    __slots__ = ("_flags", "_to_folder")
    opcode = Opcode.LINKAT

    def __init__(
        self,
        source: Path,
        target: Path,
        source_dir_fd: int | None = None,
        target_dir_fd: int | None = None,
        follow_symlinks: bool = False,
    ) -> None:
        super().__init__(source, target, source_dir_fd)
        self._to_folder = _folder(target_dir_fd) % (1 << 32)
        self._flags = _AT_SYMLINK_FOLLOW if follow_symlinks else 0

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, self._pin.address, self._to_folder, self._pin2.address, self._flags
        )

    def result(self, res: int, flags: int) -> None:
        return None


class Symlink(_TwoPathOperation):
    """symlinkat(2): a symbolic link to source, named target; its result is None.  The folder is that of target."""

    __slots__ = ()
    opcode = Opcode.SYMLINKAT

    def __init__(self, source: Path, target: Path, dir_fd: int | None = None) -> None:
        super().__init__(source, target, dir_fd)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, 0, self._pin2.address)

    def result(self, res: int, flags: int) -> None:
        return None


class Unlink(_PathOperation):
    """unlinkat(2) of a name, or rmdir(2) of a folder; its result is None."""

    __slots__ = ("_flags",)
    opcode = Opcode.UNLINKAT

    def __init__(self, path: Path, dir_fd: int | None = None, is_folder: bool = False) -> None:
        super().__init__(path, dir_fd)
        self._flags = _AT_REMOVEDIR if is_folder else 0

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, op_flags=self._flags)

    def result(self, res: int, flags: int) -> None:
        return None


class MakeFolder(_PathOperation):
    """mkdirat(2); its result is None.

    Args:
        mode: permissions, less the process's umask.
    """

    __slots__ = ("_mode",)
    opcode = Opcode.MKDIRAT

    def __init__(self, path: Path, mode: int = 0o777, dir_fd: int | None = None) -> None:
        super().__init__(path, dir_fd)
        self._mode = mode

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, self._mode)

    def result(self, res: int, flags: int) -> None:
        return None


class Resolve(enum.IntFlag):
    """RESOLVE_* of openat2(2): the steps that a path must not take."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10
    CACHED = 0x20


class OpenWithin(_PathOperation):
    """openat2(2): opens a file if its path keeps to rules; its result is the descriptor, close-on-exec.

    Args:
        flags: os.O_*; an unknown one is refused with EINVAL.
        mode: the permissions of a new file; 0 without O_CREAT and O_TMPFILE.
        resolve: the rules.
        slot: the slot for the file, instead of a descriptor; its result is then the `Slot`.
    """

    __slots__ = ("_how", "_slot")
    opcode = Opcode.OPENAT2

    def __init__(
        self,
        path: Path,
        flags: int,
        mode: int = 0,
        resolve: Resolve | int = 0,
        dir_fd: int | None = None,
        slot: Slot | None = None,
    ) -> None:
        super().__init__(path, dir_fd)
        flags = flags | os.O_CLOEXEC if slot is None else flags & ~os.O_CLOEXEC
        self._how = Pin(_OPEN_HOW.pack(flags, mode, resolve))
        self._slot = slot

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._pin.address,
            _OPEN_HOW.size,
            self._how.address,
            file_index=file_index(self._slot),
        )

    def result(self, res: int, flags: int) -> int:
        return made(res, self._slot)

    def dispose(self, res: int, flags: int) -> None:
        close_made(self._dispatcher, made(res, self._slot))
