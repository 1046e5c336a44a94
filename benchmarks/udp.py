"""How do event loops compare in UDP echo?

    python -m benchmarks.udp --connections 1 32 --rounds 5 --json udp.json

The server is one endpoint; the load generator has a socket for each connection.  A datagram lost on the way
disqualifies: with one outstanding on each connection, no buffer of the kernel overflows.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks import results
from benchmarks.echo import bytes_text, connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("datagrams") as servers:
        for connections, size in product(options.connections, options.sizes):
            yield Case(
                f"udp, {connections_text(connections)}, {bytes_text(size)}",
                Load("load", servers, options.seconds, "-u", c=connections, s=size),
                options.loops,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 32], help="sockets of the load generator")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024], help="of a datagram, in bytes")
    options = parser.parse_args(arguments)
    results.report("udp", cases(options), options)


if __name__ == "__main__":
    main()
