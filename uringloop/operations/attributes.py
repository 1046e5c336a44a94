"""Operations on extended attributes of files, by path or by descriptor; see xattr(7).

The kernel runs each of them in a worker.
"""

import os
from typing import Any

from ..ring import Descriptor, Dispatcher, Opcode, Pin
from .operation import FileOperation, Operation
from .path import Path

#: The kernel's own limit.
_VALUE_MAX_BYTES = 65536


class SetAttribute(Operation):
    """setxattr(2); its result is None.

    Args:
        path: a symbolic link stands for its target.
        name: such as "user.comment".
        value: bytes, at most 64 KiB.
        flags: os.XATTR_CREATE or os.XATTR_REPLACE.
    """

    __slots__ = ("_flags", "_name", "_path", "_value", "filename")
    opcode = Opcode.SETXATTR

    def __init__(self, path: Path, name: str | bytes, value: Any, flags: int = 0) -> None:
        super().__init__(0)
        self.filename = os.fspath(path)  # type: ignore[misc]  # an instance's own, over the class's None
        self._path = _string(path)
        self._name = _string(name)
        self._value = Pin(value)
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._name.address,
            self._value.size_bytes,
            self._value.address,
            self._flags,
            addr3=self._path.address,
        )

    def result(self, res: int, flags: int) -> None:
        return None

    def release(self) -> None:
        self._value.release()


class SetFileAttribute(FileOperation):
    """fsetxattr(2); its result is None.  See `SetAttribute` for the arguments."""

    __slots__ = ("_flags", "_name", "_value")
    opcode = Opcode.FSETXATTR

    def __init__(self, file: int | Descriptor, name: str | bytes, value: Any, flags: int = 0) -> None:
        super().__init__(file)
        self._name = _string(name)
        self._value = Pin(value)
        self._flags = flags

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._name.address,
            self._value.size_bytes,
            self._value.address,
            self._flags,
        )

    def result(self, res: int, flags: int) -> None:
        return None

    def release(self) -> None:
        self._value.release()


class GetAttribute(Operation):
    """getxattr(2); its result is the value's bytes.  ENODATA: the file has no such attribute.

    Args:
        path: a symbolic link stands for its target.
        name: such as "user.comment".
        size_max_bytes: the largest size of the value; ERANGE if it is longer.
    """

    __slots__ = ("_answer", "_name", "_path", "_pin", "filename")
    opcode = Opcode.GETXATTR

    def __init__(self, path: Path, name: str | bytes, size_max_bytes: int = _VALUE_MAX_BYTES) -> None:
        super().__init__(0)
        self.filename = os.fspath(path)  # type: ignore[misc]  # an instance's own, over the class's None
        self._path = _string(path)
        self._name = _string(name)
        self._answer = bytearray(size_max_bytes)
        self._pin = Pin(self._answer, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(
            self,
            self.opcode,
            self.fd,
            self._name.address,
            self._pin.size_bytes,
            self._pin.address,
            addr3=self._path.address,
        )

    def result(self, res: int, flags: int) -> bytes:
        return bytes(self._answer[:res])


class GetFileAttribute(FileOperation):
    """fgetxattr(2); its result is the value's bytes.  See `GetAttribute` for the arguments."""

    __slots__ = ("_answer", "_name", "_pin")
    opcode = Opcode.FGETXATTR

    def __init__(self, file: int | Descriptor, name: str | bytes, size_max_bytes: int = _VALUE_MAX_BYTES) -> None:
        super().__init__(file)
        self._name = _string(name)
        self._answer = bytearray(size_max_bytes)
        self._pin = Pin(self._answer, writable=True)

    def stage(self, dispatcher: Dispatcher) -> int:
        return dispatcher.stage(self, self.opcode, self.fd, self._name.address, self._pin.size_bytes, self._pin.address)

    def result(self, res: int, flags: int) -> bytes:
        return bytes(self._answer[:res])


def _string(text: Path) -> Pin:
    return Pin(os.fsencode(text) + b"\0")
