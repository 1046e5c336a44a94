"""`Opening`: what `open` and the functions of `tempfile` return."""

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .hot import Context

_F = TypeVar("_F")


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
