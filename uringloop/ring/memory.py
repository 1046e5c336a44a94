"""`Vector`: several pinned buffers of Python objects, in the kernel's form.  One buffer alone is a `Pin`."""

from collections.abc import Sequence
from typing import Any

from .core._cffi import ffi
from .pin import Pin


class Vector:
    """An array of `struct iovec` (readv(2)) over several pinned buffers."""

    __slots__ = ("_array", "_pins", "address", "count")

    def __init__(self, buffers: Sequence[Any], *, writable: bool = False) -> None:
        self._pins = [Pin(buffer, writable=writable) for buffer in buffers]
        self._array = ffi.new("uint64_t[]", [part for pin in self._pins for part in (pin.address, pin.size_bytes)])
        self.address = int(ffi.cast("uintptr_t", self._array))
        self.count = len(self._pins)

    def release(self) -> None:
        """Release the buffers now; no operation in flight may use them."""
        # An operation that is staged again must not find their addresses.
        ffi.buffer(self._array)[:] = bytes(ffi.sizeof(self._array))
        for pin in self._pins:
            pin.release()
