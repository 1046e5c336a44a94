"""Functions and files of `io` that block and have no operation in io_uring: a thread makes them awaitable.

The names are those of `aiofiles.base` and of the modules of `aiofiles.threadpool`; these classes are built alike.

As with aiofiles, a cancelled call returns at once, and its thread goes on, because a terminal may never answer.  A
cancelled call that is still queued is dropped, unless it is a close.  Calls on one file wait for each other; see
`layers/threads.py`.  For a call on a descriptor that the caller may close afterwards, use `in_thread` of
`layers/waiting.py` instead.
"""

import asyncio
import functools
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from functools import singledispatch
from io import BufferedIOBase, BufferedRandom, BufferedReader, BufferedWriter, FileIO, TextIOBase
from types import TracebackType
from typing import Any, Concatenate, Self, TypeVar

from .layers.threads import Turns, call_in_turn

_T = TypeVar("_T")


def wrap(func: Callable[..., _T]) -> Callable[..., Coroutine[Any, Any, _T]]:
    """Return a coroutine function that calls func in a thread; see `aiofiles.os.wrap`.

    The coroutine function takes the arguments of func, and two keywords: loop, an event loop, by default the running
    one; and executor, which provides the thread, by default the loop's own.
    """

    @functools.wraps(func)
    async def run(
        *args: Any, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None, **kwargs: Any
    ) -> _T:
        if loop is None:
            loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, functools.partial(func, *args, **kwargs))

    return run


class AsyncBase(metaclass=ABCMeta):  # noqa: B024  # what `isinstance` takes for one is registered
    """A file of the standard library whose methods are called in threads; see `aiofiles.base.AsyncBase`.

    Args:
        file: the file of the standard library.
        loop: an event loop, None for the running one.
        executor: its threads call the methods; None means the loop's own.
    """

    def __init__(
        self, file: Any, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
    ) -> None:
        self._wrapped = file
        self._executor = executor
        self._ref_loop = loop

    @property
    def _file(self) -> Any:
        return self._wrapped

    @_file.setter
    def _file(self, file: Any) -> None:
        self._wrapped = file

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._ref_loop or asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()  # type: ignore[attr-defined]  # every kind of file has it
        if line:
            return line
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._surely(functools.partial(self._file.__exit__, kind, value, traceback))

    async def close(self) -> None:
        """Close the file, even if this call is cancelled before a thread is free."""
        await self._surely(self._file.close)

    async def _surely(self, function: Callable[[], object]) -> None:
        """Call a function of the file after the calls before it, even if this call is cancelled first."""
        await asyncio.shield(self._loop.create_task(in_turn(self, function, droppable=False)))

    def __repr__(self) -> str:
        return f"{super().__repr__()} wrapping {self._file!r}"


class AsyncIndirectBase(AsyncBase):
    """A file that is looked up at each call, such as `sys.stdout`; see `aiofiles.base.AsyncIndirectBase`.

    Args:
        name: for people.
        loop: see `AsyncBase`.
        executor: see `AsyncBase`.
        indirect: a function that returns the file.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop | None,
        executor: Executor | None,
        indirect: Callable[[], Any],
    ) -> None:
        super().__init__(None, loop, executor)
        self._name = name
        self._indirect = indirect

    @property
    def _file(self) -> Any:
        return self._indirect()

    @_file.setter
    def _file(self, file: Any) -> None:
        """Do nothing: `indirect` alone chooses the file."""


async def in_turn(owner: Any, function: Callable[[], _T], *, droppable: bool = True) -> _T:
    """Call a function in a thread when the file of owner is free; owner is an `AsyncBase` or similar."""
    turns = vars(owner).setdefault("_turns", Turns())
    return await call_in_turn(turns, owner._loop, owner._executor, owner._file, function, droppable=droppable)


class AiofilesContextManager(Awaitable[Any], AbstractAsyncContextManager[Any]):
    """A file about to be opened by a coroutine; see `aiofiles.base.AiofilesContextManager`.

    `open` returns an object of another class, for which `isinstance` with this class is true.

    Args:
        coro: a coroutine that returns the file.
    """

    __slots__ = ("_coro", "_obj")

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._coro = coro
        self._obj: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._obj is None:
            self._obj = yield from self._coro.__await__()
        return self._obj

    async def __aenter__(self) -> Any:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        file, self._obj = self._obj, None
        if hasattr(type(file), "__aexit__"):
            await file.__aexit__(kind, value, traceback)
        else:
            await in_turn(file, functools.partial(file._file.__exit__, kind, value, traceback), droppable=False)


def delegate_to_executor(*names: str) -> Callable[[type[_T]], type[_T]]:
    """Return a class decorator that adds methods, which call the file's methods in a thread."""

    return _with_members(names, _make_delegate_method)


def cond_delegate_to_executor(*names: str) -> Callable[[type[_T]], type[_T]]:
    """Return a class decorator as `delegate_to_executor`, but methods of a file in memory are called at once."""
    return _with_members(names, _make_cond_delegate_method)


def proxy_method_directly(*names: str) -> Callable[[type[_T]], type[_T]]:
    """Return a class decorator that adds the file's own methods, which do not block."""

    return _with_members(names, _make_proxy_method)


def proxy_property_directly(*names: str) -> Callable[[type[_T]], type[_T]]:
    """Return a class decorator that adds properties, which are the file's attributes."""
    return _with_members(names, _make_proxy_property)


# Underscored, but users import them from aiofiles all the same.


def _make_delegate_method(attr_name: str) -> Callable[Concatenate[Any, ...], Coroutine[Any, Any, Any]]:
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await in_turn(self, functools.partial(getattr(self._file, attr_name), *args, **kwargs))

    return call


def _make_cond_delegate_method(attr_name: str) -> Callable[Concatenate[Any, ...], Coroutine[Any, Any, Any]]:
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        function = functools.partial(getattr(self._file, attr_name), *args, **kwargs)
        return await in_turn(self, function) if self._file._rolled else function()

    return call


def _make_proxy_method(attr_name: str) -> Callable[Concatenate[Any, ...], Any]:
    return lambda self, *args, **kwargs: getattr(self._file, attr_name)(*args, **kwargs)


def _make_proxy_property(attr_name: str) -> property:
    return property(lambda self: getattr(self._file, attr_name))


def _with_members(names: tuple[str, ...], make: Callable[[str], Any]) -> Callable[[type[_T]], type[_T]]:
    def decorate(kind: type[_T]) -> type[_T]:
        for name in names:
            member = make(name)
            if callable(member):
                member.__name__ = name
                member.__qualname__ = f"{kind.__qualname__}.{name}"
            setattr(kind, name, member)
        return kind

    return decorate


_METHODS = (
    "flush",
    "isatty",
    "read",
    "readline",
    "readlines",
    "seek",
    "seekable",
    "tell",
    "truncate",
    "writable",
    "write",
    "writelines",
)
_BYTE_METHODS = (*_METHODS, "read1", "readinto")
_RAW_METHODS = (*_METHODS, "readall", "readinto")
_TEXT_METHODS = (*_METHODS, "readable")
_BYTE_ATTRIBUTES = ("closed", "raw", "name", "mode")
_RAW_ATTRIBUTES = ("closed", "name", "mode")
_TEXT_ATTRIBUTES = ("buffer", "closed", "encoding", "errors", "line_buffering", "newlines", "name", "mode")


@delegate_to_executor(*_BYTE_METHODS)
@proxy_method_directly("detach", "fileno", "readable")
@proxy_property_directly(*_BYTE_ATTRIBUTES)
class AsyncBufferedIOBase(AsyncBase):
    """An `io.BufferedIOBase`, such as `io.BufferedWriter`."""


@delegate_to_executor("peek")
class AsyncBufferedReader(AsyncBufferedIOBase):
    """An `io.BufferedReader` or `io.BufferedRandom`."""


@delegate_to_executor(*_RAW_METHODS)
@proxy_method_directly("fileno", "readable")
@proxy_property_directly(*_RAW_ATTRIBUTES)
class AsyncFileIO(AsyncBase):
    """An `io.FileIO`."""


@delegate_to_executor(*_TEXT_METHODS)
@proxy_method_directly("detach", "fileno")
@proxy_property_directly(*_TEXT_ATTRIBUTES)
class AsyncTextIOWrapper(AsyncBase):
    """An `io.TextIOWrapper`."""


@delegate_to_executor(*_BYTE_METHODS)
@proxy_method_directly("detach", "fileno", "readable")
@proxy_property_directly(*_BYTE_ATTRIBUTES)
class AsyncIndirectBufferedIOBase(AsyncIndirectBase):
    """An `io.BufferedIOBase` that is looked up at each call."""


@delegate_to_executor("peek")
class AsyncIndirectBufferedReader(AsyncIndirectBufferedIOBase):
    """An `io.BufferedReader` or `io.BufferedRandom` that is looked up at each call."""


@delegate_to_executor(*_RAW_METHODS)
@proxy_method_directly("fileno", "readable")
@proxy_property_directly(*_RAW_ATTRIBUTES)
class AsyncIndirectFileIO(AsyncIndirectBase):
    """An `io.FileIO` that is looked up at each call."""


@delegate_to_executor(*_TEXT_METHODS)
@proxy_method_directly("detach", "fileno")
@proxy_property_directly(*_TEXT_ATTRIBUTES)
class AsyncTextIndirectIOWrapper(AsyncIndirectBase):
    """An `io.TextIOWrapper` that is looked up at each call."""


@singledispatch
def wrap_file(file: Any, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None) -> Any:
    """Return an awaitable file around one of the standard library; see `aiofiles.threadpool.wrap`.

    Args:
        file: an `io` object; a program can register further kinds, as with any `functools.singledispatch`.
        loop: an event loop, by default the running one.
        executor: its threads call the file's methods, by default the loop's own.

    Raises:
        TypeError: file is of no registered kind.
    """
    raise TypeError(f"Unsupported io type: {file}.")


@wrap_file.register(TextIOBase)
def _(
    file: TextIOBase, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
) -> AsyncTextIOWrapper:
    return AsyncTextIOWrapper(file, loop, executor)


@wrap_file.register(BufferedWriter)
@wrap_file.register(BufferedIOBase)
def _(
    file: BufferedIOBase, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None
) -> AsyncBufferedIOBase:
    return AsyncBufferedIOBase(file, loop, executor)


@wrap_file.register(BufferedReader)
@wrap_file.register(BufferedRandom)
def _(
    file: BufferedReader | BufferedRandom,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
) -> AsyncBufferedReader:
    return AsyncBufferedReader(file, loop, executor)


@wrap_file.register(FileIO)
def _(file: FileIO, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None) -> AsyncFileIO:
    return AsyncFileIO(file, loop, executor)
