from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from ..operations.file import Descriptor

_C = TypeVar("_C", bound=type)

NEVER: int
CREDIT: int
FIRST_WINDOW_BYTES: int
PIECE_BYTES: int

class Position:
    _descriptor: Descriptor
    _position: int
    _positioned: bool
    _shared: bool
    _cached: bool
    _local: bool
    _size_bytes: int | None
    may_go_on: Callable[[], bool]
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def position(self) -> int: ...
    def move(self, position: int) -> int: ...
    def read_at_once(self, size: int) -> bytes | None: ...

class Lines:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, Any]: ...

class Window(Lines):
    _buffer: bytes | bytearray
    _raw: Any
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
    def read(self, size: int | None = -1, /) -> Coroutine[Any, Any, bytes]: ...
    def readline(self, size: int | None = -1, /) -> Coroutine[Any, Any, bytes]: ...
    def seek(self, offset: int, whence: int = 0, /) -> Coroutine[Any, Any, int]: ...
    def write(self, data: Any, /) -> Coroutine[Any, Any, int]: ...

class Decoded(Lines):
    chars: str
    used: int
    iterating: bool

def iterated(kind: _C) -> _C: ...
