"""io_uring itself: the C core, its cffi binding, and the compiled hot half.

Everything that knows an SQE from a CQE lives here, and nothing outside this package sees `ffi` or `lib`.
"""

from .abi import (
    ACCEPT_MULTISHOT,
    POLL_ADD_MULTI,
    TRANSFER_MAX_BYTES,
    CancelFlag,
    CqeFlag,
    Feature,
    Opcode,
    Register,
    Setup,
    SqeFlag,
    Unregister,
)
from .available import is_available
from .dispatcher import (
    Completion,
    Datagram,
    Descriptor,
    Dispatcher,
    Endpoint,
    Loan,
    Pin,
    Reading,
    Receiving,
    Sockets,
    Stream,
    accept_now,
    open_now,
    read_into_now,
    read_now,
    status_now,
)
from .errors import RingUnavailableError, disabled_by_variable
from .features import OPTIONAL, Features
from .groups import BufferGroup
from .memory import Vector
from .register import message_user_data
from .registered import FILES_SKIP, NO_FILE, RegisteredBuffers, RegisteredFiles, allocate
from .ring import Ring, Stageable
from .setup import SqPoll, open_eventfd
from .sqe import Sqe
from .workers import NoWorkerError, operation_error

__all__ = [
    "ACCEPT_MULTISHOT",
    "FILES_SKIP",
    "NO_FILE",
    "OPTIONAL",
    "POLL_ADD_MULTI",
    "TRANSFER_MAX_BYTES",
    "BufferGroup",
    "CancelFlag",
    "Completion",
    "CqeFlag",
    "Datagram",
    "Descriptor",
    "Dispatcher",
    "Endpoint",
    "Feature",
    "Features",
    "Loan",
    "NoWorkerError",
    "Opcode",
    "Pin",
    "Reading",
    "Receiving",
    "Register",
    "RegisteredBuffers",
    "RegisteredFiles",
    "Ring",
    "RingUnavailableError",
    "Setup",
    "Sockets",
    "SqPoll",
    "Sqe",
    "SqeFlag",
    "Stageable",
    "Stream",
    "Unregister",
    "Vector",
    "accept_now",
    "allocate",
    "disabled_by_variable",
    "is_available",
    "message_user_data",
    "open_eventfd",
    "open_now",
    "operation_error",
    "read_into_now",
    "read_now",
    "status_now",
]
