from typing import Any

from typing_extensions import disjoint_base

from .endpoint import Endpoint

@disjoint_base
class Datagram(Endpoint):
    def notify_low(self, low_water_bytes: int) -> None: ...
    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None: ...
    def send_packed(self, data: bytes | bytearray | memoryview, name: bytes) -> None: ...
