"""Large buffers for files that are written at length, kept for the next file.

A buffered write to a local file wakes a kernel worker, which costs as much as copying 128 KiB does: so a file that goes
on being written has a buffer of twice that.  Memory that is fresh costs more to touch for the first time than the bytes
cost to copy: so a few are kept.
"""

#: Unless a size was asked for.
LARGE_BUFFER_SIZE_BYTES = 256 * 1024
_SPARE_BUFFERS = 4

_spares: list[bytearray] = []


def spare_buffer() -> bytearray:
    """A large buffer, with whatever was in it last."""
    try:
        return _spares.pop()
    except IndexError:
        return bytearray(LARGE_BUFFER_SIZE_BYTES)


def give_back(buffer: bytes | bytearray) -> None:
    """Keep a buffer, if it is a large one: nobody refers to it, and the kernel does not read it any more."""
    if type(buffer) is bytearray and len(buffer) == LARGE_BUFFER_SIZE_BYTES and len(_spares) < _SPARE_BUFFERS:
        _spares.append(buffer)
