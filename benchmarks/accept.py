"""How do event loops compare in short connections: accept, one message back and forth, close?

    python -m benchmarks.accept --connections 16 --rounds 5

So many connections are open at a time, and each is followed by a new one.  The latency is that of a whole connection.
With `--sockets given`, the server is given its listening socket, which workers may share, and does not make it itself.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks import results
from benchmarks.echo import bytes_text, connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers

#: The mode of the server, and the end of the case's name.
SOCKETS = {"made": ("short", ""), "given": ("short_given", ", on a given socket")}


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for sockets in options.sockets:
        yield from _cases(sockets, options)


def _cases(sockets: str, options: argparse.Namespace) -> Iterator[Case]:
    mode, ending = SOCKETS[sockets]
    with Servers(mode) as servers:
        for connections, size in product(options.connections, options.sizes):
            yield Case(
                f"accept, message, close: {connections_text(connections)} at a time, {bytes_text(size)}{ending}",
                Load("short", servers, options.seconds, c=connections, s=size),
                options.loops,
                "connections/s",
            )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--connections", nargs="+", type=int, default=[16], help="at a time")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024], help="of the message, in bytes")
    parser.add_argument("--sockets", nargs="+", choices=SOCKETS, default=list(SOCKETS), help="who makes them")
    options = parser.parse_args(arguments)
    results.report("accept", cases(options), options)


if __name__ == "__main__":
    main()
