import asyncio
from collections.abc import Callable, Generator
from types import CodeType, FrameType
from typing import Any, Self, TypeVar, final

from typing_extensions import disjoint_base

from ...companion import Submitter
from ...ring import Descriptor
from .raw import FilePath, Mode, RawFile

_C = TypeVar("_C", bound=type)

NEVER: int
CREDIT: int
BUFFER_SIZE_BYTES: int
FIRST_WINDOW_BYTES: int
PIECE_BYTES: int
code_of_stand_in: dict[str, Any]

@disjoint_base
class Lock:
    @property
    def locked(self) -> bool: ...
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, kind: Any, value: Any, traceback: Any) -> None: ...
    async def acquire(self) -> None: ...
    async def wait(self) -> None: ...
    def release(self) -> None: ...

@disjoint_base
class Call:
    @property
    def __name__(self) -> str: ...
    @property
    def __qualname__(self) -> str: ...
    @property
    def cr_await(self) -> Any: ...
    @property
    def cr_code(self) -> CodeType: ...
    @property
    def cr_frame(self) -> FrameType | None: ...
    @property
    def cr_origin(self) -> None: ...
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_suspended(self) -> bool: ...
    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, *exception: Any) -> Any: ...
    def forward(self, method: Callable[..., Any], *arguments: Any) -> Any: ...
    def close(self) -> None: ...

@final
class Owed(Call): ...

@disjoint_base
class Context:
    _file: Any
    def __new__(cls, opens: Callable[..., Any], *arguments: Any) -> Self: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, kind: Any, value: Any, traceback: Any) -> None: ...

@disjoint_base
class Base:
    _loop: asyncio.AbstractEventLoop
    _closing: asyncio.Task[None] | None
    _is_closed: bool
    @property
    def _lock(self) -> Lock: ...

@disjoint_base
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

@disjoint_base
class Lines(Base):
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Any: ...
    async def next_call(self) -> Any: ...

@disjoint_base
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
    async def close(self) -> None: ...
    async def __aexit__(self, kind: Any, value: Any, traceback: Any) -> None: ...
    async def read(self, size: int | None = -1, /) -> bytes: ...
    async def readline(self, size: int | None = -1, /) -> bytes: ...
    async def seek(self, offset: int, whence: int = 0, /) -> int: ...
    async def write(self, data: Any, /) -> int: ...

@disjoint_base
class Decoded(Lines):
    chars: str
    used: int
    iterating: bool

def looks_async(*functions: Callable[..., Any]) -> None: ...
def iterated(kind: _C) -> _C: ...
