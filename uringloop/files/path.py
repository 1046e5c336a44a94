"""`Path`: a `pathlib` path; its methods that use the disk are awaited."""

import os
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from . import atomic, ospath, whole
from . import os as aos
from .opening import Opening
from .threadpool import open
from .wrapping import wrap

Other = str | os.PathLike[str]


class Path(pathlib.PurePosixPath):
    """A path, with the arguments, results and exceptions of `pathlib.Path`.

    The names that it shares with `pathlib.PurePath` (`parent`, `name`, `/`, `with_suffix`, ...) are not awaited.
    """

    __slots__ = ()

    def _as(self, path: Other) -> Self:
        return type(self)(path)

    async def _in_thread(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await wrap(method)(pathlib.Path(self), *args, **kwargs)

    # Looking at the file

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the status; see `os.stat`."""
        return await aos.stat(self, follow_symlinks=follow_symlinks)

    async def lstat(self) -> os.stat_result:
        """Return the status, of a symbolic link itself; see `os.lstat`."""
        return await aos.lstat(self)

    async def exists(self) -> bool:
        """Return whether the file exists; for a symbolic link, whether its target does."""
        return await ospath.exists(self)

    async def is_file(self) -> bool:
        """Return whether it is a regular file, or a symbolic link to one."""
        return await ospath.isfile(self)

    async def is_dir(self) -> bool:
        """Return whether it is a folder, or a symbolic link to one."""
        return await ospath.isdir(self)

    async def is_symlink(self) -> bool:
        """Return whether it is a symbolic link."""
        return await ospath.islink(self)

    async def is_mount(self) -> bool:
        """Return whether another file system begins here."""
        return await ospath.ismount(self)

    async def samefile(self, other_path: Other) -> bool:
        """Return whether both paths are the same file."""
        return await ospath.samefile(self, other_path)

    async def readlink(self) -> Self:
        """Return the target of a symbolic link."""
        return self._as(await aos.readlink(self))

    async def resolve(self, strict: bool = False) -> Self:
        """Return the absolute path, without symbolic links."""
        return self._as(await self._in_thread(pathlib.Path.resolve, strict))

    async def iterdir(self) -> AsyncIterator[Self]:
        """Yield the paths in the folder, in no order."""
        for name in await aos.listdir(self):
            yield self / name

    async def glob(self, pattern: str) -> AsyncIterator[Self]:
        """Yield the paths in the folder that match a pattern, after all of them were found."""
        for path in await self._in_thread(lambda folder: list(folder.glob(pattern))):
            yield self._as(path)

    async def rglob(self, pattern: str) -> AsyncIterator[Self]:
        """Yield the paths in the whole tree that match a pattern, after all of them were found."""
        for path in await self._in_thread(lambda folder: list(folder.rglob(pattern))):
            yield self._as(path)

    async def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
        """Yield the folders of the tree; see `os.walk`."""
        async for folder, folders, names in whole.walk(self, top_down, on_error, follow_symlinks):
            yield self._as(folder), folders, names

    # Changing it

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder.

        Args:
            mode: permissions, from which the kernel subtracts the umask.
            parents: whether to make missing folders above it too.
            exist_ok: whether an existing folder is no error.
        """
        try:
            await aos.mkdir(self, mode)
        except FileNotFoundError:
            if not parents or self.parent == self:
                raise
            await self.parent.mkdir(parents=True, exist_ok=True)
            await self.mkdir(mode, exist_ok=exist_ok)
        except OSError:
            if not exist_ok or not await self.is_dir():
                raise

    async def rmdir(self) -> None:
        """Remove an empty folder."""
        await aos.rmdir(self)

    async def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file or a symbolic link."""
        try:
            await aos.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    async def rename(self, target: Other) -> Self:
        """Give the file another name, and return that path."""
        await aos.rename(self, target)
        return self._as(target)

    async def replace(self, target: Other) -> Self:
        """Give the file another name, as `rename`, and return that path."""
        await aos.replace(self, target)
        return self._as(target)

    async def symlink_to(self, target: Other, target_is_directory: bool = False) -> None:
        """Make this a symbolic link to target."""
        await aos.symlink(target, self, target_is_directory)

    async def hardlink_to(self, target: Other) -> None:
        """Make this another name of target."""
        await aos.link(target, self)

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or set the times of an existing file to now."""
        await self._in_thread(pathlib.Path.touch, mode, exist_ok)

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set the permissions."""
        await self._in_thread(pathlib.Path.chmod, mode, follow_symlinks=follow_symlinks)

    # The content

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Opening[Any]:
        """Open the file; see `uringloop.files.open`."""
        return open(self, mode, buffering, encoding, errors, newline)

    async def read_bytes(self) -> bytes:
        """Return the content."""
        return await whole.read_bytes(self)

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """Return the content as text."""
        return await whole.read_text(self, encoding, errors, newline)

    async def write_bytes(self, data: Any) -> int:
        """Replace the content in place, and return the number of bytes."""
        return await whole.write_bytes(self, data)

    async def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Replace the content by text in place, and return the number of characters."""
        return await whole.write_text(self, data, encoding, errors, newline)

    async def replace_bytes(self, data: Any, *, durable: bool = True) -> int:
        """Replace the content in one step; see `uringloop.files.replace_bytes`."""
        return await atomic.replace_bytes(self, data, durable=durable)
