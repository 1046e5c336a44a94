"""The permissions of a file that replaces another one: never more than those of the other, at any moment.

The new file begins with the owner's bits alone.  Next it gets its group, its owner and its access control list.  It
gets the other bits last, when they mean the same users as in the other file.  If the process cannot give it the group
or the list, it leaves out the bits that depend on them.
"""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass

#: Extended attribute that holds the access control list of POSIX.1e.
_ACCESS_LIST = "system.posix_acl_access"
_NO_LIST = {errno.ENODATA, errno.ENOTSUP}
#: Of a file without a predecessor; the kernel subtracts the umask, as with `open`.
_USUAL_MODE = 0o666


@dataclass(frozen=True)
class Permissions:
    """The permissions of a file.

    Attributes:
        mode: the permission bits of stat(2).
        uid: of the owner.
        gid: of the group.
        access_list: the access control list in the kernel's format, None without one.
    """

    mode: int
    uid: int
    gid: int
    access_list: bytes | None

    @property
    def first_mode(self) -> int:
        """The mode to make the new file with: only its owner may use it."""
        return self.mode & stat.S_IRWXU

    def give_to(self, fd: int) -> None:
        """Give these permissions to the open file fd, as far as the process may.

        Raises:
            OSError: as from fchmod(2) and removexattr(2).
        """
        made = os.fstat(fd)
        has_group = made.st_gid == self.gid or _changes_owner(fd, -1, self.gid)
        has_owner = made.st_uid == self.uid or _changes_owner(fd, self.uid, -1)
        mode = self.mode
        if not has_owner:
            mode &= ~stat.S_ISUID
        if not has_group:
            # Members of either group are among the others in the other file.
            common = (mode >> 3) & mode & stat.S_IRWXO
            mode = mode & ~(stat.S_ISGID | stat.S_IRWXG | stat.S_IRWXO) | common << 3 | common
        if self.access_list is None or not has_group or not _takes_access_list(fd, self.access_list):
            _remove_access_list(fd)
            if self.access_list is not None:
                mode &= ~(stat.S_ISGID | stat.S_IRWXG | stat.S_IRWXO)
        os.fchmod(fd, mode)


def permissions_of(path: bytes) -> Permissions | None:
    """Return the permissions of a file; None if there is no such file.

    Raises:
        OSError: as from stat(2) and getxattr(2).
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return Permissions(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, _access_list(path))


def first_mode(permissions: Permissions | None) -> int:
    """Return the mode to make a file with that will have these permissions; None means the usual ones."""
    return _USUAL_MODE if permissions is None else permissions.first_mode


def _access_list(file: bytes | int) -> bytes | None:
    try:
        return os.getxattr(file, _ACCESS_LIST)
    except OSError as error:
        if error.errno not in _NO_LIST:
            raise
        return None


def _takes_access_list(fd: int, access_list: bytes) -> bool:
    try:
        os.setxattr(fd, _ACCESS_LIST, access_list)
    except OSError:
        return False
    return True


def _remove_access_list(fd: int) -> None:
    """Remove the access control list that a file has inherited from its folder."""
    if _access_list(fd) is not None:
        os.removexattr(fd, _ACCESS_LIST)


def _changes_owner(fd: int, uid: int, gid: int) -> bool:
    with contextlib.suppress(OSError):
        os.fchown(fd, uid, gid)
        return True
    return False
