"""Reads a file past the page cache into registered buffers, and prints its checksum: O_DIRECT with several in flight.

    python examples/ring_direct.py FILE [--depth 8]

Direct reads need memory, offsets and sizes that are multiples of a block, which `allocate` and whole blocks are.  A
registered buffer is pinned by the kernel once, not for each read, and a registered file is looked up once.  Where the
file system has no direct reads (tmpfs before Linux 6.6), ordinary ones are made.
"""

import argparse
import os
import sys
import zlib
from pathlib import Path

from uringloop.ring import Opcode, Pin, Ring, RingUnavailableError, SqeFlag, allocate

BLOCK = 256 << 10


def open_direct(path: Path) -> tuple[int, bool]:
    """The descriptor, and whether reads go past the page cache."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT), True
    except OSError:
        return os.open(path, os.O_RDONLY), False


def checksum(ring: Ring, fd: int, depth: int) -> int:
    """The CRC32 of a file."""
    size = os.fstat(fd).st_size
    buffers = [allocate(BLOCK) for _ in range(depth)]
    ring.register_buffers(buffers)
    ring.register_files([fd])
    crc = 0
    for start in range(0, size, BLOCK * depth):
        for index, buffer in enumerate(buffers):
            pin = Pin(buffer)
            sqe = ring.get_sqe()
            sqe.hold(pin)
            sqe.data = index
            offset = start + index * BLOCK
            sqe.prep(Opcode.READ_FIXED, 0, pin.address, BLOCK, offset, buf_index=index, flags=SqeFlag.FIXED_FILE)
        counts = {completion.operation.data: completion.result() for completion in ring.completions()}
        for index, buffer in enumerate(buffers):
            crc = zlib.crc32(memoryview(buffer)[: counts[index]], crc)
    return crc


def main() -> None:
    parser = argparse.ArgumentParser(description="The CRC32 of a file, read past the page cache.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--depth", type=int, default=8, help="reads in flight")
    options = parser.parse_args()
    try:
        with Ring() as ring:
            fd, is_direct = open_direct(options.file)
            try:
                crc = checksum(ring, fd, options.depth)
            finally:
                os.close(fd)
    except RingUnavailableError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"failed: {error}")
    print(f"{crc:08x} {options.file} ({'direct' if is_direct else 'through the page cache'})")


if __name__ == "__main__":
    main()
