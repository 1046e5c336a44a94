import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Self, TypeVar

from ...companion import Submitter
from ...ring import Descriptor
from .raw import FilePath, Mode, RawFile

_C = TypeVar("_C", bound=type)

NEVER: int
CREDIT: int
BUFFER_SIZE_BYTES: int
FIRST_WINDOW_BYTES: int
PIECE_BYTES: int

class Lock:
    @property
    def locked(self) -> bool: ...
    def __aenter__(self) -> Coroutine[Any, Any, None]: ...
    def __aexit__(self, kind: Any, value: Any, traceback: Any) -> Coroutine[Any, Any, None]: ...
    def acquire(self) -> Coroutine[Any, Any, None]: ...
    def release(self) -> None: ...

class Context:
    _file: Any
    def __init__(self, opens: Callable[..., Any], *arguments: Any) -> None: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __aenter__(self) -> Coroutine[Any, Any, Any]: ...
    def __aexit__(self, kind: Any, value: Any, traceback: Any) -> Coroutine[Any, Any, None]: ...

class Base:
    _loop: asyncio.AbstractEventLoop
    _closing: asyncio.Task[None] | None
    _is_closed: bool
    @property
    def _lock(self) -> Lock: ...

class Position(Base):
    _submitter: Submitter
    _name: FilePath
    _unread: bytes
    _seekable: bool
    _writable: bool
    mode_flags: Mode
    block_size_bytes: int
    written_bytes: int
    is_regular: bool
    is_terminal: bool
    uncertain: bool
    _descriptor: Descriptor
    _position: int
    _positioned: bool
    _shared: bool
    _cached: bool
    _local: bool
    _size_bytes: int | None
    has_budget: Callable[[], bool]
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        submitter: Submitter,
        descriptor: Descriptor,
        status: tuple[int, int, int],
        mode: Mode,
        name: FilePath,
        shared: bool,
        direct: bool,
    ) -> None: ...
    def close_at_once(self) -> bool: ...
    def read_at_once(self, size: int) -> bytes | None: ...

class Lines(Base):
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, Any]: ...
    def next_call(self) -> Coroutine[Any, Any, Any]: ...

class Window(Lines):
    _readable: bool
    _writable: bool
    _buffer: bytes | bytearray
    _raw: RawFile | None
    _pos: int
    _read_end: int
    _write_pos: int
    _write_end: int
    _raw_pos: int
    _read_limit: int
    _write_limit: int
    _straight: int
    _window: int
    _size: int
    _adapts: bool
    _credit: int
    def __init__(self, loop: asyncio.AbstractEventLoop, raw: RawFile, buffering: int) -> None: ...
    def close(self) -> Coroutine[Any, Any, None]: ...
    def __aexit__(self, kind: Any, value: Any, traceback: Any) -> Coroutine[Any, Any, None]: ...
    def read(self, size: int | None = -1, /) -> Coroutine[Any, Any, bytes]: ...
    def readline(self, size: int | None = -1, /) -> Coroutine[Any, Any, bytes]: ...
    def seek(self, offset: int, whence: int = 0, /) -> Coroutine[Any, Any, int]: ...
    def write(self, data: Any, /) -> Coroutine[Any, Any, int]: ...

class Decoded(Lines):
    chars: str
    used: int
    iterating: bool

def looks_async(*functions: Callable[..., Any]) -> None: ...
def iterated(kind: _C) -> _C: ...
