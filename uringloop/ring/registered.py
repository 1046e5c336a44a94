"""Registered buffers and files: looked up and pinned once, instead of for each operation.

A registered buffer's object stays pinned while it is registered.  An operation that uses it pins the object as well.
So a table that gets another buffer never takes the old memory from an operation in flight.
"""

import array
import mmap
from collections.abc import Sequence
from typing import Any

from .abi import FILES_SKIP, RSRC_REGISTER_SPARSE, Register, Unregister
from .memory import Vector
from .pin import Pin
from .register import Registration, message_user_data, pack

_RSRC_BYTES = 32
#: An empty place in the table of files.
NO_FILE = -1


def allocate(size_bytes: int) -> mmap.mmap:
    """Return writable memory that is aligned to pages, as O_DIRECT needs it."""
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class _Table:
    """Numbered places, registered with a ring as a whole.

    A completion brings a tag (`Completion.number`) when the kernel has released the resource of that tag; 0 asks for
    none.
    """

    _register: int
    _update: int
    _unregister: int

    def __init__(self, ring: Registration, size: int) -> None:
        self._ring = ring
        self.size = size

    def __len__(self) -> int:
        return self.size

    def _check(self, index: int, count: int = 1) -> None:
        if index < 0 or index + count > self.size:
            raise IndexError(f"the table has {self.size} places, {index} to {index + count - 1} are not among them")

    def _open(self, values: Any, tags: Sequence[int] | None, flags: int = 0) -> None:
        data, tagged = self._arrays(values, tags, self.size)
        argument = pack("IIQQQ", self.size, flags, 0, *(pin.address if pin else 0 for pin in (data, tagged)))
        self._ring._register(self._register, argument, _RSRC_BYTES)

    def _change(self, index: int, values: Any, tags: Sequence[int] | None, count: int) -> None:
        self._check(index, count)
        data, tagged = self._arrays(values, tags, count)
        addresses = (pin.address if pin else 0 for pin in (data, tagged))
        self._ring._register(self._update, pack("IIQQII", index, 0, *addresses, count, 0), _RSRC_BYTES)

    @staticmethod
    def _arrays(values: Any, tags: Sequence[int] | None, count: int) -> tuple[Any, Pin | None]:
        if tags is None:
            return values, None
        if len(tags) != count:
            raise ValueError(f"{count} places need as many tags, not {len(tags)}")
        return values, Pin(array.array("Q", [message_user_data(tag) if tag else 0 for tag in tags]))

    def unregister(self) -> None:
        """Unregister the whole table; operations in flight keep the resources that they use."""
        self._ring._register(self._unregister)
        self.size = 0


class RegisteredBuffers(_Table):
    """A table of buffers, made by `Ring.register_buffers`; operations such as `ReadFixed` name a place in it."""

    _register, _update, _unregister = Register.BUFFERS2, Register.BUFFERS_UPDATE, Unregister.BUFFERS

    def __init__(self, ring: Registration, buffers: Sequence[Any] | int, tags: Sequence[int] | None) -> None:
        sparse = isinstance(buffers, int)
        objects = [None] * buffers if isinstance(buffers, int) else list(buffers)
        super().__init__(ring, len(objects))
        if sparse:
            self._vectors: list[Vector | None] = [None] * self.size
            self._open(None, tags, RSRC_REGISTER_SPARSE)
        else:
            vector = Vector(objects, writable=True)
            self._open(vector, tags)
            self._vectors = [vector] * self.size
        self._objects: list[Any] = objects

    def __getitem__(self, index: int) -> Any:
        """Return the object that is registered at a place, or None."""
        self._check(index)
        return self._objects[index]

    def update(self, index: int, buffers: Sequence[Any], tags: Sequence[int] | None = None) -> None:
        """Put other buffers into places of the table, None for an empty one; operations in flight keep the old ones.

        Raises:
            IndexError: the table has no such places.
        """
        self._check(index, len(buffers))
        if any(buffer is None for buffer in buffers):
            for place, buffer in enumerate(buffers):
                self._update_one(index + place, buffer, None if tags is None else [tags[place]])
            return
        vector = Vector(buffers, writable=True)
        self._change(index, vector, tags, len(buffers))
        self._objects[index : index + len(buffers)] = buffers
        self._vectors[index : index + len(buffers)] = [vector] * len(buffers)

    def unregister(self) -> None:
        """Unregister the whole table; operations in flight keep the resources that they use."""
        super().unregister()
        self._objects.clear()
        self._vectors.clear()

    def _update_one(self, index: int, buffer: Any, tags: Sequence[int] | None) -> None:
        if buffer is not None:
            self.update(index, [buffer], tags)
            return
        # An empty iovec.
        self._change(index, Pin(bytes(16)), tags, 1)
        self._objects[index] = self._vectors[index] = None


class RegisteredFiles(_Table):
    """A table of files, made by `Ring.register_files`: an SQE with FIXED_FILE takes a place in it for a descriptor.

    The kernel has its own reference: the descriptors may be closed.
    """

    _register, _update, _unregister = Register.FILES2, Register.FILES_UPDATE2, Unregister.FILES

    def __init__(self, ring: Registration, files: Sequence[int] | int, tags: Sequence[int] | None) -> None:
        super().__init__(ring, files if isinstance(files, int) else len(files))
        if isinstance(files, int):
            self._open(None, tags, RSRC_REGISTER_SPARSE)
        else:
            self._open(Pin(array.array("i", files)), tags)

    def update(self, index: int, files: Sequence[int], tags: Sequence[int] | None = None) -> None:
        """Put other files into places of the table; `NO_FILE` empties one, `FILES_SKIP` leaves it unchanged.

        Raises:
            IndexError: the table has no such places.
        """
        self._change(index, Pin(array.array("i", files)), tags, len(files))

    def set_allocation_range(self, first: int, count: int) -> None:
        """Set the places for files of operations that leave the place to the kernel; at first the whole table."""
        self._check(first, count)
        self._ring._register(Register.FILE_ALLOC_RANGE, pack("IIQ", first, count, 0), 0)


__all__ = ["FILES_SKIP", "NO_FILE", "RegisteredBuffers", "RegisteredFiles", "allocate"]
