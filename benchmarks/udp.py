"""How do event loops compare in UDP: echo, and datagrams one way?

    python -m benchmarks.udp --connections 1 32 --rounds 5 --json udp.json
    python -m benchmarks.udp --only one-way --rounds 5

Echo: the server is one endpoint; the load generator has a socket for each connection.  A datagram lost on the way
disqualifies: with one outstanding on each connection, no buffer of the kernel overflows.

One way: one socket sends as fast as it can, and another process counts.  First each loop sends to itself.  Then a C
program sends to each loop, by one send(2) for each datagram, and by UDP_SEGMENT.  The rate is of the datagrams that
arrived; the others are lost, where the receiver is slower than the sender.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks import results
from benchmarks.echo import bytes_text, connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, SelfLoad, Servers

ECHO, ONE_WAY = "echo", "one-way"
ONE_WAY_BYTES = 1200


def cases(options: argparse.Namespace) -> Iterator[Case]:
    if ECHO in options.only:
        yield from echo_cases(options)
    if ONE_WAY in options.only:
        yield from one_way_cases(options)


def echo_cases(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("datagrams") as servers:
        for connections, size in product(options.connections, options.sizes):
            yield Case(
                f"udp, {connections_text(connections)}, {bytes_text(size)}",
                Load("load", servers, options.seconds, "-u", c=connections, s=size),
                options.loops,
            )


def one_way_cases(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("counting") as servers:
        loads = {
            "each loop to itself": SelfLoad("senders", servers, options.seconds, s=ONE_WAY_BYTES),
            "from send(2)": Load("datagrams", servers, options.seconds, s=ONE_WAY_BYTES),
            "from UDP_SEGMENT": Load("datagrams", servers, options.seconds, "-g", s=ONE_WAY_BYTES),
        }
        for name, load in loads.items():
            yield Case(f"udp one way, {bytes_text(ONE_WAY_BYTES)}, {name}", load, options.loops, "arrived/s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 32], help="sockets of the load generator")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024], help="of a datagram, in bytes")
    parser.add_argument("--only", nargs="+", choices=(ECHO, ONE_WAY), default=(ECHO, ONE_WAY))
    options = parser.parse_args(arguments)
    results.report("udp", cases(options), options)


if __name__ == "__main__":
    main()
