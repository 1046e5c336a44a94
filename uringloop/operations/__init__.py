"""Operations: one small class for each thing that the loop asks of the kernel."""

from .base import Operation, State
from .control import Nop, Poll
from .ending import close_ring
from .file import Close, Fstat, Open, Read, Write
from .path import Link, MakeFolder, Rename, Stat, Symlink, Unlink
from .socket import Accept, AcceptMany, Connect, Receive, ReceiveInto, SendAll

__all__ = [
    "Accept",
    "AcceptMany",
    "Close",
    "Connect",
    "Fstat",
    "Link",
    "MakeFolder",
    "Nop",
    "Open",
    "Operation",
    "Poll",
    "Read",
    "Receive",
    "ReceiveInto",
    "Rename",
    "SendAll",
    "Stat",
    "State",
    "Symlink",
    "Unlink",
    "Write",
    "close_ring",
]
