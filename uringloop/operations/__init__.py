"""Operations: one small class for each thing that the loop asks of the kernel."""

from .base import Operation, State
from .control import Nop, Poll
from .file import Close, Fstat, Open, Read, Write
from .socket import Accept, AcceptMany, Connect, Receive, ReceiveInto, SendAll

__all__ = [
    "Accept",
    "AcceptMany",
    "Close",
    "Connect",
    "Fstat",
    "Nop",
    "Open",
    "Operation",
    "Poll",
    "Read",
    "Receive",
    "ReceiveInto",
    "SendAll",
    "State",
    "Write",
]
