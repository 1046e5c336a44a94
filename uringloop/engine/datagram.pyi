from typing import Any

from .endpoint import Endpoint

class Datagram(Endpoint):
    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None: ...
    def send_packed(self, data: bytes | bytearray | memoryview, name: bytes) -> None: ...
