"""io_uring itself: the C core, its bindings, and the compiled dispatcher.

All code that fills in an SQE or reads a CQE lives here.  Outside, only a room with a binding of its own sees `ffi`.
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
from .base import RingBase
from .by_hand import Ring, Stageable
from .descriptor import Descriptor
from .dispatcher import Dispatcher
from .errors import RingUnavailableError, disabled_by_variable
from .features import OPTIONAL, Features
from .groups import BufferGroup
from .loan import Loan
from .memory import Vector
from .pin import Pin
from .queues import Completion
from .register import message_user_data
from .registered import FILES_SKIP, NO_FILE, RegisteredBuffers, RegisteredFiles, allocate
from .ring import LoopRing
from .setup import SqPoll
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
    "Descriptor",
    "Dispatcher",
    "Feature",
    "Features",
    "Loan",
    "LoopRing",
    "NoWorkerError",
    "Opcode",
    "Pin",
    "Register",
    "RegisteredBuffers",
    "RegisteredFiles",
    "Ring",
    "RingBase",
    "RingUnavailableError",
    "Setup",
    "SqPoll",
    "Sqe",
    "SqeFlag",
    "Stageable",
    "Unregister",
    "Vector",
    "allocate",
    "disabled_by_variable",
    "is_available",
    "message_user_data",
    "operation_error",
]
