"""Operations: one small class for each thing that the loop asks of the kernel."""

from . import address
from .base import Operation, State
from .control import Nop, Poll
from .ending import close_ring
from .file import Close, Descriptor, Fstat, Open, Read, Ready, Write
from .path import Link, MakeFolder, Rename, Stat, Symlink, Unlink
from .socket import Accept, AcceptMany, Connect, ReceiveFrom, ReceiveInto, SendAll, SendTo, first_bytes
from .transfer import Splice

__all__ = [
    "Accept",
    "AcceptMany",
    "Close",
    "Connect",
    "Descriptor",
    "Fstat",
    "Link",
    "MakeFolder",
    "Nop",
    "Open",
    "Operation",
    "Poll",
    "Read",
    "Ready",
    "ReceiveFrom",
    "ReceiveInto",
    "Rename",
    "SendAll",
    "SendTo",
    "Splice",
    "Stat",
    "State",
    "Symlink",
    "Unlink",
    "Write",
    "address",
    "close_ring",
    "first_bytes",
]
