"""How do event loops compare in echo beside a thread of the same process that computes in Python without end?

    python -m benchmarks.tail --connections 64 --rounds 5

The thread holds the GIL for a switch interval (5 ms) whenever the loop has let go of it, so each system call of the
loop that releases it can cost that much: the rate tells how seldom that is, and p99 how evenly.
"""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks import results
from benchmarks.echo import connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("protocol", "--busy") as servers:
        for connections in options.connections:
            load = Load("load", servers, options.seconds, c=connections)
            name = f"tcp protocol beside a busy thread, {connections_text(connections)}, 1 KiB"
            yield Case(name, load, options.loops)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, seconds=1.0)
    parser.add_argument("--connections", nargs="+", type=int, default=[64])
    options = parser.parse_args(arguments)
    results.report("tail", cases(options), options)


if __name__ == "__main__":
    main()
