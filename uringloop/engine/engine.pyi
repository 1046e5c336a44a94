from contextvars import Context
from socket import socket
from typing import Any

from typing_extensions import disjoint_base

from .base import EngineBase
from .datagram import Datagram
from .sock import Sockets
from .stream import Stream

@disjoint_base
class Engine(EngineBase):
    @property
    def sockets(self) -> Sockets | None: ...
    def open_sockets(self) -> Sockets: ...
    def open_stream(
        self,
        transport: Any,
        fd: int,
        file: Any,
        delays_small_writes: bool,
        context: Context | None = None,
        receive_context: Context | None = None,
    ) -> Stream: ...
    def open_pipe(self, transport: Any, pipe: Any, multishot: bool) -> Stream: ...
    def open_datagram(
        self, transport: Any, sock: socket, remote: Any, sends_empty: bool, overhead_bytes: int
    ) -> Datagram: ...
