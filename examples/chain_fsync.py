"""Appends records to a journal, each durable before the next one begins: header, content, fsync, as one chain.

    python examples/chain_fsync.py JOURNAL [--records 3] [--limit BYTES]

The kernel runs the three one after the other; the program wakes once a record.  What fails ends the chain: with a limit
of the file's size the record that no longer fits says which part of it was the one, and that it was not synced.
"""

import argparse
import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import uringloop
from uringloop.operations import ChainError, Fsync, Write

HEADER_BYTES = 8


async def append(fd: int, offset: int, content: bytes) -> int:
    """Write one record; returns where the next one begins."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    header = len(content).to_bytes(HEADER_BYTES, "little")
    await loop.submit_chain([Write(fd, header, offset), Write(fd, content, offset + HEADER_BYTES), Fsync(fd)])
    return offset + HEADER_BYTES + len(content)


async def write_journal(path: Path, records: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    offset = 0
    try:
        for number in range(records):
            try:
                offset = await append(fd, offset, f"record {number}".encode())
            except ChainError as error:
                print(f"record {number}: {error}")
                # Half of a record is none.
                os.truncate(fd, offset)
                break
            print(f"record {number}: durable, {offset} bytes so far")
    finally:
        os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(description="Append records to a journal, each synced before the next.")
    parser.add_argument("journal", type=Path)
    parser.add_argument("--records", type=int, default=3)
    parser.add_argument("--limit", type=int, help="bytes that the file may have")
    options = parser.parse_args()
    if options.limit is not None:
        # Beyond it a write fails with EFBIG, or is cut short.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.limit, options.limit))
    try:
        uringloop.run(write_journal(options.journal, options.records))
    except OSError as error:
        sys.exit(f"failed: {error}")


if __name__ == "__main__":
    main()
