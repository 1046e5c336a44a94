import asyncio
from collections.abc import Callable

from typing_extensions import disjoint_base

from ...companion import Submitter
from ...ring import Descriptor
from .file_base import FileBase
from .unlocked import FilePath, Mode

PIECE_BYTES: int

@disjoint_base
class RawBase(FileBase):
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
    _polls_in_vain: bool | None
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
    def read_at_once(self, size_bytes: int, /) -> bytes | None: ...
