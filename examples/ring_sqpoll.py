"""Writes without a system call: a thread of the kernel's takes what is put into the queue (SQPOLL).

    python examples/ring_sqpoll.py

It keeps a CPU busy until it has seen nothing for `idle_ms`; after that one system call wakes it.  The count of those
calls is at the end.
"""

import sys
import tempfile

from uringloop.operations import Write
from uringloop.ring import Ring, RingUnavailableError, SqPoll

LINES = 1000


def main() -> None:
    try:
        ring = Ring(sq_poll=SqPoll(idle_ms=500))
    except RingUnavailableError as error:
        sys.exit(str(error))
    with ring, tempfile.TemporaryFile() as file:
        for number in range(LINES):
            ring.prepare(Write(file.fileno(), b"line %4d\n" % number, offset=number * 10))
            ring.submit()
        written = sum(completion.result() for completion in ring.completions())
        statistics = ring.statistics()
        content = file.read()
    assert content == b"".join(b"line %4d\n" % number for number in range(LINES))
    print(f"{written} bytes in {LINES} submits, {statistics['enters']} system calls")


if __name__ == "__main__":
    main()
