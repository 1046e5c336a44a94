"""Copies a file through io_uring, says how fast, and with --compare whether the copy is the same.

    python examples/copy_file.py SOURCE TARGET --compare

Reads and writes take turns, but the event loop is free all the time: nothing here blocks it.
"""

import argparse
import os
import sys
import time

import uringloop
from uringloop import files

CHUNK_BYTES = 1 << 20


async def copy(source: str, target: str, chunk_bytes: int) -> int:
    """Returns the number of bytes copied."""
    copied_bytes = 0
    async with files.open(source, "rb") as reader, files.open(target, "wb") as writer:
        buffer = bytearray(chunk_bytes)
        view = memoryview(buffer)
        while count := await reader.readinto(buffer):
            copied_bytes += await writer.write(view[:count])
    return copied_bytes


async def same_content(one: str, other: str, chunk_bytes: int) -> bool:
    async with files.open(one, "rb") as first, files.open(other, "rb") as second:
        while True:
            chunk = await first.read(chunk_bytes)
            if chunk != await second.read(chunk_bytes):
                return False
            if not chunk:
                return True


async def copy_and_tell(options: argparse.Namespace) -> None:
    started = time.perf_counter()
    copied_bytes = await copy(options.source, options.target, options.chunk)
    seconds = time.perf_counter() - started
    rate = copied_bytes / seconds / (1 << 20)
    print(f"{copied_bytes} bytes in {seconds:.3f} s: {rate:.0f} MiB/s into the page cache, not synced to the disk")
    if not options.compare:
        print("not compared")
    elif await same_content(options.source, options.target, options.chunk):
        print("compared: the copy is the same")
    else:
        raise ValueError(f"{options.target} is not the same as {options.source}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy a file through io_uring.")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--chunk", type=int, default=CHUNK_BYTES, help="bytes of one read and one write")
    parser.add_argument("--compare", action="store_true", help="read both files again and compare them")
    options = parser.parse_args()
    if options.chunk < 1:
        parser.error("--chunk must be at least 1")
    if os.path.exists(options.target) and os.path.samefile(options.source, options.target):
        sys.exit(f"failed: {options.source} and {options.target} are the same file")
    try:
        uringloop.run(copy_and_tell(options))
    except (OSError, ValueError) as error:
        sys.exit(f"failed: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted: {options.target} may be incomplete")


if __name__ == "__main__":
    main()
