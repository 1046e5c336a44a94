"""Several buffers of Python objects, held still, as the kernel takes them.  One buffer alone is a `Pin`."""

from collections.abc import Sequence
from typing import Any

from .core._cffi import ffi
from .pin import Pin


class Vector:
    """An array of `struct iovec` (readv(2)) over several buffers, all held still."""

    __slots__ = ("_array", "_pins", "address", "count")

    def __init__(self, buffers: Sequence[Any], *, writable: bool = False) -> None:
        self._pins = [Pin(buffer, writable=writable) for buffer in buffers]
        self._array = ffi.new("uint64_t[]", [part for pin in self._pins for part in (pin.address, pin.size_bytes)])
        self.address = int(ffi.cast("uintptr_t", self._array))
        self.count = len(self._pins)

    def release(self) -> None:
        """Let go of the buffers now; only when nothing in flight uses them."""
        for pin in self._pins:
            pin.release()
