"""The engine: the compiled code that runs once a message.  Its C and its Cython stand together here."""

from .datagram import Datagram
from .endpoint import Endpoint
from .engine import Engine
from .sock import Receiving, Sockets, accept_now
from .stream import Stream
from .writes import StreamWrites, keeps_stream

__all__ = [
    "Datagram",
    "Endpoint",
    "Engine",
    "Receiving",
    "Sockets",
    "Stream",
    "StreamWrites",
    "accept_now",
    "keeps_stream",
]
