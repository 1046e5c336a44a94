"""`Opening`: what `open` and the functions of `tempfile` return."""

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

_F = TypeVar("_F")


class Opening(Generic[_F]):
    """A file about to be opened: `await` it, or enter it with `async with`, which closes the file at the end.

    Args:
        opens: a coroutine function that does it.
        arguments: of that.
    """

    __slots__ = ("_arguments", "_file", "_opens")

    def __init__(self, opens: Callable[..., Coroutine[Any, Any, _F]], *arguments: Any) -> None:
        self._opens = opens
        self._arguments = arguments
        self._file: _F | None = None

    def __await__(self) -> Generator[Any, Any, _F]:
        if self._file is None:
            self._file = yield from self._opens(*self._arguments).__await__()
        return self._file

    async def __aenter__(self) -> _F:
        if self._file is None:
            self._file = await self._opens(*self._arguments)
        return self._file

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        file: Any = self._file
        self._file = None
        if file is not None:
            await file.__aexit__(kind, value, traceback)
