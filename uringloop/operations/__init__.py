"""Operations: one small class for each thing that the loop asks of the kernel."""

from . import address
from .base import Operation, State
from .control import Nop, Poll
from .file import Close, Descriptor, Fstat, Open, Read, Ready, Write
from .socket import Accept, AcceptMany, Connect, Receive, ReceiveFrom, ReceiveInto, SendAll, SendTo, first_bytes
from .transfer import Splice

__all__ = [
    "Accept",
    "AcceptMany",
    "Close",
    "Connect",
    "Descriptor",
    "Fstat",
    "Nop",
    "Open",
    "Operation",
    "Poll",
    "Read",
    "Ready",
    "Receive",
    "ReceiveFrom",
    "ReceiveInto",
    "SendAll",
    "SendTo",
    "Splice",
    "State",
    "Write",
    "address",
    "first_bytes",
]
