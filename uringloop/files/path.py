"""`Path`: a `pathlib` path whose methods that look at the disk are awaited."""

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
    """A path; see `pathlib.Path`, whose arguments, results and exceptions these are.

    What it shares with `pathlib.PurePath` (`parent`, `name`, `/`, `with_suffix`, ...) is not awaited.
    """

    __slots__ = ()

    def _as(self, path: Other) -> Self:
        return type(self)(path)

    async def _in_thread(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await wrap(method)(pathlib.Path(self), *args, **kwargs)

    # What is there

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """See `os.stat`."""
        return await aos.stat(self, follow_symlinks=follow_symlinks)

    async def lstat(self) -> os.stat_result:
        """See `os.lstat`."""
        return await aos.lstat(self)

    async def exists(self) -> bool:
        """Whether something is there; of a symbolic link, where it points to."""
        return await ospath.exists(self)

    async def is_file(self) -> bool:
        """Whether it is a regular file, or a symbolic link to one."""
        return await ospath.isfile(self)

    async def is_dir(self) -> bool:
        """Whether it is a folder, or a symbolic link to one."""
        return await ospath.isdir(self)

    async def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return await ospath.islink(self)

    async def is_mount(self) -> bool:
        """Whether another file system begins here."""
        return await ospath.ismount(self)

    async def samefile(self, other_path: Other) -> bool:
        """Whether both are the same file."""
        return await ospath.samefile(self, other_path)

    async def readlink(self) -> Self:
        """Where a symbolic link points to."""
        return self._as(await aos.readlink(self))

    async def resolve(self, strict: bool = False) -> Self:
        """The absolute path, without symbolic links."""
        return self._as(await self._in_thread(pathlib.Path.resolve, strict))

    async def iterdir(self) -> AsyncIterator[Self]:
        """What is in the folder, in no order."""
        for name in await aos.listdir(self):
            yield self / name

    async def glob(self, pattern: str) -> AsyncIterator[Self]:
        """What in the folder matches a pattern; all is found before the first is given."""
        for path in await self._in_thread(lambda folder: list(folder.glob(pattern))):
            yield self._as(path)

    async def rglob(self, pattern: str) -> AsyncIterator[Self]:
        """The same in the whole tree."""
        for path in await self._in_thread(lambda folder: list(folder.rglob(pattern))):
            yield self._as(path)

    async def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
        """The folders of the tree; see `os.walk`."""
        async for folder, folders, names in whole.walk(self, top_down, on_error, follow_symlinks):
            yield self._as(folder), folders, names

    # Changing it

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder.

        Args:
            mode: permissions, less the umask.
            parents: also the folders that it is in.
            exist_ok: that it is there is no error.
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
        """Give it another name; returns that."""
        await aos.rename(self, target)
        return self._as(target)

    async def replace(self, target: Other) -> Self:
        """The same."""
        await aos.replace(self, target)
        return self._as(target)

    async def symlink_to(self, target: Other, target_is_directory: bool = False) -> None:
        """Make this a symbolic link to target."""
        await aos.symlink(target, self, target_is_directory)

    async def hardlink_to(self, target: Other) -> None:
        """Make this another name of target."""
        await aos.link(target, self)

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file, or set its times to now."""
        await self._in_thread(pathlib.Path.touch, mode, exist_ok)

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set its permissions."""
        await self._in_thread(pathlib.Path.chmod, mode, follow_symlinks=follow_symlinks)

    # Its content

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
        """The content."""
        return await whole.read_bytes(self)

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """The content as text."""
        return await whole.read_text(self, encoding, errors, newline)

    async def write_bytes(self, data: Any) -> int:
        """Make these bytes the content, in place; returns their number."""
        return await whole.write_bytes(self, data)

    async def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Make this text the content, in place; returns the number of its characters."""
        return await whole.write_text(self, data, encoding, errors, newline)

    async def replace_bytes(self, data: Any, *, durable: bool = True) -> int:
        """Make these bytes the content in one step; see `uringloop.files.replace_bytes`."""
        return await atomic.replace_bytes(self, data, durable=durable)
