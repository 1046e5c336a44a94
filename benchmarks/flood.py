"""How do event loops serve others beside connections that send as fast as they can?

    python -m benchmarks.flood --connections 100 300 --rounds 5

Twenty more connections ask by one byte, one of them each 5 ms.  The rate is that of the flood.  p50, p99 and the
maximum are those of the answers, counted from when each question was due.  A server that leaves a question unanswered
is disqualified.
"""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks import results
from benchmarks.echo import connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers

WRITE_BYTES = 256 << 10


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("flood") as servers:
        for connections in options.connections:
            load = Load("flood", servers, options.seconds, c=connections, s=WRITE_BYTES)
            yield Case(f"flood of {connections_text(connections)}, questions beside it", load, options.loops, "MiB/s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, seconds=2.0)
    parser.add_argument("--connections", nargs="+", type=int, default=[100, 300])
    options = parser.parse_args(arguments)
    results.report("flood", cases(options), options)


if __name__ == "__main__":
    main()
