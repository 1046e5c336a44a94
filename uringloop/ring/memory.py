"""Memory that the kernel reads or writes: buffers of Python objects, held still, with their addresses.

A `Pin` keeps the object's buffer exported, so that it can be neither resized nor freed, until it is dropped.
"""

from collections.abc import Sequence
from typing import Any

from ._cffi import ffi


class Pin:
    """A buffer held still.

    Args:
        buffer: bytes, bytearray, memoryview, or another object with a contiguous buffer.
        writable: the kernel will write into it.

    Raises:
        TypeError: the object has no buffer.
        BufferError: it is not contiguous, or read-only where writable is asked for.
    """

    __slots__ = ("_exported", "address", "size_bytes")

    def __init__(self, buffer: Any, *, writable: bool = False) -> None:
        self._exported = ffi.from_buffer(buffer, require_writable=writable)
        self.address = int(ffi.cast("uintptr_t", self._exported))
        self.size_bytes = len(self._exported)


class Vector:
    """An array of `struct iovec` (readv(2)) over several buffers, all held still."""

    __slots__ = ("_array", "_pins", "address", "count")

    def __init__(self, buffers: Sequence[Any], *, writable: bool = False) -> None:
        self._pins = [Pin(buffer, writable=writable) for buffer in buffers]
        self._array = ffi.new("uint64_t[]", [part for pin in self._pins for part in (pin.address, pin.size_bytes)])
        self.address = int(ffi.cast("uintptr_t", self._array))
        self.count = len(self._pins)
