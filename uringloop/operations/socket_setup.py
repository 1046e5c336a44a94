"""Operations that make, bind, query and shut down sockets."""

import socket
import struct
from typing import Any

from ..ring import Dispatcher, Opcode, Pin
from .base import Slot, file_index, made
from .emptying import close_made
from .operation import Operation

#: SOCKET_URING_OP_* of io_uring_cmd(3).
_UNREAD, _UNSENT, _GET_OPTION, _SET_OPTION = range(4)
_INT = struct.Struct("=i")
_OPTION_MAX_BYTES = 1024


class MakeSocket(Operation):
    """socket(2); its result is the descriptor, non-blocking and close-on-exec.

    Args:
        family: socket.AF_*.
        kind: socket.SOCK_*.
        protocol: 0 for the usual one.
        slot: the slot for the socket, instead of a descriptor; its result is then the `Slot`.
    """

    __slots__ = ("_kind", "_protocol", "_slot")
    opcode = Opcode.SOCKET

    def __init__(self, family: int, kind: int, protocol: int = 0, slot: Slot | None = None) -> None:
        # The kernel reads the family from the descriptor field.
        super().__init__(int(family))
        self._kind = kind | socket.SOCK_NONBLOCK | (socket.SOCK_CLOEXEC if slot is None else 0)
        self._protocol = protocol
        self._slot = slot

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self, self.opcode, self.fd, 0, self._protocol, self._kind, file_index=file_index(self._slot)
        )

    def result(self, res: int, flags: int) -> int:
        return made(res, self._slot)

    def dispose(self, res: int, flags: int) -> None:
        close_made(self._dispatcher, made(res, self._slot))


class Bind(Operation):
    """bind(2) to a packed address (`address.pack`); its result is None.  Needs Linux 6.11."""

    __slots__ = ("_pin",)
    opcode = Opcode.BIND

    def __init__(self, fd: int, packed_address: bytes) -> None:
        super().__init__(fd)
        self._pin = Pin(packed_address)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._pin.address, 0, self._pin.size_bytes)

    def result(self, res: int, flags: int) -> None:
        return None


class Listen(Operation):
    """listen(2); its result is None.  Needs Linux 6.11.

    Args:
        backlog: the number of connections that may wait for an accept.
    """

    __slots__ = ("_waiting_max",)
    opcode = Opcode.LISTEN

    def __init__(self, fd: int, backlog: int = 128) -> None:
        super().__init__(fd)
        self._waiting_max = backlog

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, 0, self._waiting_max)

    def result(self, res: int, flags: int) -> None:
        return None


class Shutdown(Operation):
    """shutdown(2); its result is None.

    Args:
        how: socket.SHUT_*.
    """

    __slots__ = ("_how",)
    opcode = Opcode.SHUTDOWN

    def __init__(self, fd: int, how: int) -> None:
        super().__init__(fd)
        self._how = how

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, 0, self._how)

    def result(self, res: int, flags: int) -> None:
        return None


class Command(Operation):
    """A command to the driver of a file (uring_cmd); its result is a number that the driver defines.

    EOPNOTSUPP: the driver has no commands.

    Args:
        fd: a socket, a device.
        command: the number that the driver defines.
        address, length, third: fields of the SQE for the driver; the memory that they point to must stay.
    """

    __slots__ = ("_address", "_command", "_length", "_third")
    opcode = Opcode.URING_CMD

    def __init__(self, fd: int, command: int, address: int = 0, length: int = 0, third: int = 0) -> None:
        super().__init__(fd)
        self._command = command
        self._address = address
        self._length = length
        self._third = third

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._address,
            0,
            self._command,
            file_index=self._length,
            addr3=self._third,
        )


class UnreadBytes(Command):
    """The number of bytes that a socket has for the next receive (SIOCINQ); needs Linux 6.7."""

    __slots__ = ()

    def __init__(self, fd: int) -> None:
        super().__init__(fd, _UNREAD)


class Unsent(Command):
    """The number of sent bytes that the peer has not acknowledged (SIOCOUTQ); needs Linux 6.7."""

    __slots__ = ()

    def __init__(self, fd: int) -> None:
        super().__init__(fd, _UNSENT)


class GetOption(Command):
    """getsockopt(2) at level SOL_SOCKET; its result is the option's bytes.  Needs Linux 6.7.

    Args:
        option: socket.SO_*.
    """

    __slots__ = ("_answer", "_pin")

    def __init__(self, fd: int, option: int, level: int = socket.SOL_SOCKET) -> None:
        self._answer = bytearray(_OPTION_MAX_BYTES)
        self._pin = Pin(self._answer, writable=True)
        super().__init__(fd, _GET_OPTION, level | option << 32, _OPTION_MAX_BYTES, self._pin.address)

    def result(self, res: int, flags: int) -> bytes:
        return bytes(self._answer[:res])


class SetOption(Command):
    """setsockopt(2); its result is None.  Needs Linux 6.7.

    Args:
        option: such as socket.SO_KEEPALIVE.
        value: a number, or bytes.
    """

    __slots__ = ("_pin",)

    def __init__(self, fd: int, option: int, value: int | Any, level: int = socket.SOL_SOCKET) -> None:
        self._pin = Pin(_INT.pack(value) if isinstance(value, int) else value)
        super().__init__(fd, _SET_OPTION, level | option << 32, self._pin.size_bytes, self._pin.address)

    def result(self, res: int, flags: int) -> None:
        return None

    def release(self) -> None:
        self._pin.release()
