import asyncio
from typing import Any

from typing_extensions import disjoint_base

from .line_reader import LineReader
from .raw import RawFile

NEVER: int
BUDGET_CALLS: int
BUFFER_SIZE_BYTES: int
FIRST_READ_AHEAD_BYTES: int

@disjoint_base
class ReadAhead(LineReader):
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
    _bypass_from_bytes: int
    _read_ahead_bytes: int
    _buffer_size_bytes: int
    _adapts: bool
    _budget_calls: int
    def __init__(self, loop: asyncio.AbstractEventLoop, raw: RawFile, buffering: int) -> None: ...
    async def close(self) -> None: ...
    async def __aexit__(self, kind: Any, value: Any, traceback: Any) -> None: ...
    async def read(self, size: int | None = -1, /) -> bytes: ...
    async def readline(self, size: int | None = -1, /) -> bytes: ...
    async def seek(self, offset: int, whence: int = 0, /) -> int: ...
    async def write(self, data: Any, /) -> int: ...
