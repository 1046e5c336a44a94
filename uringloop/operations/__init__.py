"""Operations: one small class for each request that io_uring takes."""

from ..ring import Descriptor
from . import address
from .attributes import GetAttribute, GetFileAttribute, SetAttribute, SetFileAttribute
from .base import ANY_SLOT, Slot, State
from .chain import Chain, ChainError
from .closing import close_ring
from .compiled import Nop, Read, ReadFixed, Write, WriteFixed
from .control import Cancel, MessageRing, Poll, PollRemove, PollUpdate, SendFile
from .file import Advise, AdviseMemory, Allocate, Close, Fstat, Fsync, Open, Ready, SyncFlag, SyncRange, Truncate
from .group import Group
from .message import Message, ReceiveMessage, ReceiveMessages, SendMessage
from .multishot import Multishot, MultishotIterator, Results
from .operation import Operation
from .path import (
    Link,
    MakeFolder,
    OpenWithin,
    Rename,
    RenameFlag,
    Resolve,
    Stat,
    Symlink,
    Unlink,
)
from .read_write import ReadMany, ReadVector, WriteVector, read_at, transferred
from .registered import (
    InstallFile,
    ProvideBuffers,
    ReadVectorFixed,
    RemoveBuffers,
    UpdateFiles,
    WriteVectorFixed,
)
from .socket import Accept, AcceptMany, Connect, Receive, ReceiveFrom, ReceiveInto, SendAll, SendTo, first_bytes
from .socket_setup import (
    Bind,
    Command,
    GetOption,
    Listen,
    MakeSocket,
    SetOption,
    Shutdown,
    UnreadBytes,
    Unsent,
)
from .timer import Clock, LinkTimeout, Timeout, TimeoutRemove, TimeoutUpdate
from .transfer import MakePipe, Splice, Tee
from .wait import EpollAction, EpollControl, EpollWait, FutexFlag, FutexWait, FutexWaitAny, FutexWake, WaitChild
from .zero_copy import ReceiveZeroCopy, SendMessageZeroCopy, SendZeroCopy

__all__ = [
    "ANY_SLOT",
    "Accept",
    "AcceptMany",
    "Advise",
    "AdviseMemory",
    "Allocate",
    "Bind",
    "Cancel",
    "Chain",
    "ChainError",
    "Clock",
    "Close",
    "Command",
    "Connect",
    "Descriptor",
    "EpollAction",
    "EpollControl",
    "EpollWait",
    "Fstat",
    "Fsync",
    "FutexFlag",
    "FutexWait",
    "FutexWaitAny",
    "FutexWake",
    "GetAttribute",
    "GetFileAttribute",
    "GetOption",
    "Group",
    "InstallFile",
    "Link",
    "LinkTimeout",
    "Listen",
    "MakeFolder",
    "MakePipe",
    "MakeSocket",
    "Message",
    "MessageRing",
    "Multishot",
    "MultishotIterator",
    "Nop",
    "Open",
    "OpenWithin",
    "Operation",
    "Poll",
    "PollRemove",
    "PollUpdate",
    "ProvideBuffers",
    "Read",
    "ReadFixed",
    "ReadMany",
    "ReadVector",
    "ReadVectorFixed",
    "Ready",
    "Receive",
    "ReceiveFrom",
    "ReceiveInto",
    "ReceiveMessage",
    "ReceiveMessages",
    "ReceiveZeroCopy",
    "RemoveBuffers",
    "Rename",
    "RenameFlag",
    "Resolve",
    "Results",
    "SendAll",
    "SendFile",
    "SendMessage",
    "SendMessageZeroCopy",
    "SendTo",
    "SendZeroCopy",
    "SetAttribute",
    "SetFileAttribute",
    "SetOption",
    "Shutdown",
    "Slot",
    "Splice",
    "Stat",
    "State",
    "Symlink",
    "SyncFlag",
    "SyncRange",
    "Tee",
    "Timeout",
    "TimeoutRemove",
    "TimeoutUpdate",
    "Truncate",
    "Unlink",
    "UnreadBytes",
    "Unsent",
    "UpdateFiles",
    "WaitChild",
    "Write",
    "WriteFixed",
    "WriteVector",
    "WriteVectorFixed",
    "address",
    "close_ring",
    "first_bytes",
    "read_at",
    "transferred",
]
