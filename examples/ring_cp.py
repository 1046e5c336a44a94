"""Copies a file with up to DEPTH blocks under way at a time, on a ring without an event loop.

    python examples/ring_cp.py SOURCE TARGET [--depth 16] [--block 131072]

A block is read, and when its read completes the same buffer is written; when that completes, the buffer reads the next
block.  Reads and writes complete in any order.  Compare examples/copy_file.py, which is the same thing with await.
"""

import argparse
import os
import sys
from pathlib import Path

from uringloop.operations import Read, Write
from uringloop.ring import Ring, RingUnavailableError


class Block:
    """A buffer, and the part of the file that is in it."""

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)
        self.offset = 0


def copy(ring: Ring, source: int, target: int, depth: int, block_size: int) -> int:
    """Copy all of one descriptor's file to another's; returns the number of bytes."""
    size = os.fstat(source).st_size
    offsets = iter(range(0, size, block_size))
    of: dict[object, Block] = {}

    def read_next(block: Block) -> None:
        block.offset = next(offsets, -1)
        if block.offset >= 0:
            of[ring.prepare(Read(source, block.buffer, block.offset))] = block

    for _ in range(depth):
        read_next(Block(block_size))
    copied = 0
    for completion in ring.completions():
        block = of.pop(completion.operation)
        count = completion.result()
        if isinstance(completion.operation, Read):
            of[ring.prepare(Write(target, block.view[:count], block.offset))] = block
        else:
            copied += count
            read_next(block)
    if copied != size:
        raise OSError(f"{copied} of {size} bytes were copied: the file changed, or there is no room")
    return copied


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy a file with several blocks under way at a time.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--depth", type=int, default=16, help="blocks at a time")
    parser.add_argument("--block", type=int, default=128 << 10, help="bytes in a block")
    options = parser.parse_args()
    try:
        with Ring() as ring, options.source.open("rb") as source, options.target.open("wb") as target:
            copied = copy(ring, source.fileno(), target.fileno(), options.depth, options.block)
    except RingUnavailableError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"failed: {error}")
    print(f"{copied} bytes copied")


if __name__ == "__main__":
    main()
