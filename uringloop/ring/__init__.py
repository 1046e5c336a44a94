"""io_uring itself: the C core, its cffi binding, and the compiled hot half.

Everything that knows an SQE from a CQE lives here, and nothing outside this package sees `ffi` or `lib`.
"""

from .abi import ACCEPT_MULTISHOT, POLL_ADD_MULTI, CqeFlag, Feature, Opcode, Setup, SqeFlag
from .errors import RingUnavailableError, disabled_by_variable
from .features import OPTIONAL, Features
from .hot import (
    Completion,
    Datagram,
    Dispatcher,
    Endpoint,
    Pin,
    Receiving,
    Sockets,
    Stream,
    open_now,
    read_into_now,
    read_now,
    status_now,
)
from .memory import Vector
from .ring import Ring, Stageable, is_available
from .setup import SqPoll
from .sqe import Sqe
from .watch import WatchSelector

__all__ = [
    "ACCEPT_MULTISHOT",
    "OPTIONAL",
    "POLL_ADD_MULTI",
    "Completion",
    "CqeFlag",
    "Datagram",
    "Dispatcher",
    "Endpoint",
    "Feature",
    "Features",
    "Opcode",
    "Pin",
    "Receiving",
    "Ring",
    "RingUnavailableError",
    "Setup",
    "Sockets",
    "SqPoll",
    "Sqe",
    "SqeFlag",
    "Stageable",
    "Stream",
    "Vector",
    "WatchSelector",
    "disabled_by_variable",
    "is_available",
    "open_now",
    "read_into_now",
    "read_now",
    "status_now",
]
