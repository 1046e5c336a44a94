"""How do event loops compare in moving much in one direction, over one TCP connection?

    python -m benchmarks.bulk --directions in out --rounds 5

What comes in is sampled, what goes out is compared whole.  The CPU time is for each MiB.
"""

import argparse
import contextlib
import random
import tempfile
from collections.abc import Iterator, Sequence

from benchmarks import results
from benchmarks.results import Case
from benchmarks.runner import Load, Servers

WRITE_BYTES = 256 << 10
PIECE_BYTES = 1 << 20
SERVERS = {"in": "sink", "out": "source"}
LOADS = {"in": "push", "out": "pull"}


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with content_file(WRITE_BYTES) as content:
        for direction in options.directions:
            with Servers(SERVERS[direction], "--file", content) as servers:
                yield Case(
                    f"bulk {direction}, writes of {WRITE_BYTES >> 10} KiB",
                    Load("bulk", servers, options.seconds, f=content, m=LOADS[direction]),
                    options.loops,
                    "MiB/s",
                )


@contextlib.contextmanager
def content_file(size: int) -> Iterator[str]:
    """Its path; the content is random, and the same in every run."""
    with tempfile.NamedTemporaryFile(prefix="uringloop-benchmark-") as file:
        source = random.Random(size)
        for start in range(0, size, PIECE_BYTES):
            file.write(source.randbytes(min(PIECE_BYTES, size - start)))
        file.flush()
        yield file.name


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, transports=True)
    parser.add_argument("--directions", nargs="+", choices=SERVERS, default=list(SERVERS), help="as the server sees it")
    options = parser.parse_args(arguments)
    results.report("bulk", cases(options), options)


if __name__ == "__main__":
    main()
