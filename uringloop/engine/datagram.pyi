from typing import Any

from .base import EngineBase
from .endpoint import Endpoint

class Datagram(Endpoint):
    def __init__(
        self,
        engine: EngineBase,
        sock: Any,
        transport: Any,
        multishot: bool,
        remote: Any,
        peer: Any,
        sends_empty: bool,
        overhead_bytes: int,
    ) -> None: ...
    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None: ...
    def send_packed(self, data: bytes | bytearray | memoryview, name: bytes) -> None: ...
