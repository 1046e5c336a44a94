from typing import Any

from ..ring import Dispatcher
from .base import EngineBase
from .sock import Sockets

class Engine(EngineBase):
    def __init__(
        self, loop: Any, dispatcher: Dispatcher, transports: dict[int, Any], unread: Any, has_buffers: bool
    ) -> None: ...
    @property
    def sockets(self) -> Sockets | None: ...
    def open_sockets(self) -> Sockets: ...
