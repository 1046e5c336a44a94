"""How do event loops compare over TLS: in echo, in full handshakes, in moving much one way?

    python -m benchmarks.tls --only echo --sizes 1024 16384 --rounds 5

The load generators are made with OpenSSL, whose headers are Debian's package libssl-dev.  A handshake has its TCP
connection, and ends with one byte and the goodbyes of both sides; no session is reused.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks import bulk, results
from benchmarks.echo import bytes_text, connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers

LIBRARIES = ("ssl", "crypto")


def echoes(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("tls") as servers:
        for connections, size in product(options.connections, options.sizes):
            yield Case(
                f"tls, {connections_text(connections)}, {bytes_text(size)}",
                Load("tls", servers, options.seconds, libraries=LIBRARIES, c=connections, s=size),
                options.loops,
            )


def handshakes(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("tls_short") as servers:
        load = Load("tls_short", servers, options.seconds, libraries=LIBRARIES, c=options.at_once)
        name = f"tls handshakes: {connections_text(options.at_once)} at a time"
        yield Case(name, load, options.loops, "handshakes/s")


def one_way(direction: str, options: argparse.Namespace) -> Iterator[Case]:
    with (
        bulk.content_file(bulk.WRITE_BYTES) as content,
        Servers(f"tls_{bulk.SERVERS[direction]}", "--file", content) as servers,
    ):
        yield Case(
            f"tls bulk {direction}, writes of {bulk.WRITE_BYTES >> 10} KiB",
            Load("tls_bulk", servers, options.seconds, libraries=LIBRARIES, f=content, m=bulk.LOADS[direction]),
            options.loops,
            "MiB/s",
        )


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for question in options.only:
        if question == "echo":
            yield from echoes(options)
        elif question == "handshake":
            yield from handshakes(options)
        else:
            yield from one_way(question, options)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, transports=True)
    questions = ["echo", "handshake", *bulk.SERVERS]
    parser.add_argument("--only", nargs="+", choices=questions, default=questions)
    parser.add_argument("--connections", nargs="+", type=int, default=[64], help="of echo")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024, 16384], help="of its messages, in bytes")
    parser.add_argument("--at-once", type=int, default=16, metavar="HANDSHAKES")
    options = parser.parse_args(arguments)
    results.report("tls", cases(options), options)


if __name__ == "__main__":
    main()
