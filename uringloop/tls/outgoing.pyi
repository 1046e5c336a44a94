from collections import deque
from collections.abc import Iterable

from typing_extensions import disjoint_base

from .flow import Flow

FATAL: str

@disjoint_base
class Outgoing(Flow):
    @property
    def _write_backlog(self) -> deque[bytes]: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def _write_appdata(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None: ...
