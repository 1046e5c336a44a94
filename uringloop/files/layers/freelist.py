"""A freelist of large buffers: a file that is written at length gives its buffer to the next one.

A buffered write to a local file wakes a kernel worker, which costs as much as copying 128 KiB.  So a file that is
written on and on gets a buffer of twice that size.  The first touch of fresh memory costs more than copying the bytes.
So the freelist keeps a few buffers.
"""

#: Size of a large buffer, unless `open` was given a size.
LARGE_BUFFER_SIZE_BYTES = 256 * 1024
_FREE_BUFFERS_MAX = 4

_free_buffers: list[bytearray] = []


def take_buffer() -> bytearray:
    """Return a large buffer from the freelist, with its last content, or a new one."""
    try:
        return _free_buffers.pop()
    except IndexError:
        return bytearray(LARGE_BUFFER_SIZE_BYTES)


def free_buffer(buffer: bytes | bytearray) -> None:
    """Put a buffer on the freelist, if it is a large one and the list has room.

    Args:
        buffer: nothing else refers to it, and the kernel no longer reads it.
    """
    if type(buffer) is bytearray and len(buffer) == LARGE_BUFFER_SIZE_BYTES and len(_free_buffers) < _FREE_BUFFERS_MAX:
        _free_buffers.append(buffer)
