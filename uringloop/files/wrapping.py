"""What blocks and has no operation in io_uring, made awaitable by a thread: functions, and files of `io`.

The names are those of `aiofiles.base` and `aiofiles.threadpool`'s modules, and so is how these classes are built.

As with aiofiles, a call that is cancelled returns at once, and its thread goes on: nobody could wait for a terminal.
One that is still queued is dropped, but for a close.  Calls on one file wait for each other; see `threads.py`.
What works on a descriptor that the caller may close afterwards is awaited by `blocking.in_thread` instead.
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
    """A coroutine function that calls a function in a thread; see `aiofiles.os.wrap`.

    What it returns takes the function's arguments, and the keywords loop (of asyncio, by default the running one) and
    executor (whose thread it is, by default the loop's own).
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
        file: what is wrapped.
        loop: of asyncio, None for the running one.
        executor: whose threads call the methods, None for the loop's own.
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
        """Close the file; also if this is cancelled before a thread is free."""
        await self._surely(self._file.close)

    async def _surely(self, function: Callable[[], object]) -> None:
        """Call a function of the file when it is its turn, also if this is cancelled before."""
        await asyncio.shield(self._loop.create_task(in_turn(self, function, droppable=False)))

    def __repr__(self) -> str:
        return f"{super().__repr__()} wrapping {self._file!r}"


class AsyncIndirectBase(AsyncBase):
    """The same for what a name means at the time of each call, such as `sys.stdout`.

    Args:
        name: for people.
        loop: see `AsyncBase`.
        executor: see `AsyncBase`.
        indirect: called for the file.
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
        """Which file it is, is not this object's to say."""


async def in_turn(owner: Any, function: Callable[[], _T], *, droppable: bool = True) -> _T:
    """Call a function in a thread when the file of owner, an `AsyncBase` or the like, is free."""
    turns = vars(owner).setdefault("_turns", Turns())
    return await call_in_turn(turns, owner._loop, owner._executor, owner._file, function, droppable=droppable)


class AiofilesContextManager(Awaitable[Any], AbstractAsyncContextManager[Any]):
    """A file about to be opened by a coroutine; see `aiofiles.base.AiofilesContextManager`.

    What `open` returns counts as one, and is made in another way.

    Args:
        coro: returns the file.
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
    """Give a class methods that call the file's own in a thread."""

    return _with_members(names, _make_delegate_method)


def cond_delegate_to_executor(*names: str) -> Callable[[type[_T]], type[_T]]:
    """The same for temporary files that are in memory first: there the methods are called at once."""
    return _with_members(names, _make_cond_delegate_method)


def proxy_method_directly(*names: str) -> Callable[[type[_T]], type[_T]]:
    """Give a class methods that are the file's own: they do not block."""

    return _with_members(names, _make_proxy_method)


def proxy_property_directly(*names: str) -> Callable[[type[_T]], type[_T]]:
    """Give a class properties that are the file's attributes."""
    return _with_members(names, _make_proxy_property)


# Underscored, and imported from aiofiles all the same.


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
    """Whatever `io.BufferedIOBase` a name stands for."""


@delegate_to_executor("peek")
class AsyncIndirectBufferedReader(AsyncIndirectBufferedIOBase):
    """Whatever `io.BufferedReader` or `io.BufferedRandom` a name stands for."""


@delegate_to_executor(*_RAW_METHODS)
@proxy_method_directly("fileno", "readable")
@proxy_property_directly(*_RAW_ATTRIBUTES)
class AsyncIndirectFileIO(AsyncIndirectBase):
    """Whatever `io.FileIO` a name stands for."""


@delegate_to_executor(*_TEXT_METHODS)
@proxy_method_directly("detach", "fileno")
@proxy_property_directly(*_TEXT_ATTRIBUTES)
class AsyncTextIndirectIOWrapper(AsyncIndirectBase):
    """Whatever `io.TextIOWrapper` a name stands for."""


@singledispatch
def wrap_file(file: Any, *, loop: asyncio.AbstractEventLoop | None = None, executor: Executor | None = None) -> Any:
    """An awaitable file around one of the standard library; see `aiofiles.threadpool.wrap`.

    Args:
        file: an `io` object; further kinds can be registered, as with any `functools.singledispatch`.
        loop: of asyncio, by default the running one.
        executor: whose threads call the file's methods, by default the loop's own.

    Raises:
        TypeError: it is no file.
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
