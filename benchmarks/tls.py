"""How do event loops compare in echo over TLS?

    python -m benchmarks.tls --connections 64 --rounds 5

The load generator is made with OpenSSL, whose headers are Debian's package libssl-dev.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks import results
from benchmarks.echo import bytes_text, connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers

LIBRARIES = ("ssl", "crypto")


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with Servers("tls") as servers:
        for connections, size in product(options.connections, options.sizes):
            yield Case(
                f"tls, {connections_text(connections)}, {bytes_text(size)}",
                Load("tls", servers, options.seconds, libraries=LIBRARIES, c=connections, s=size),
                options.loops,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, transports=True)
    parser.add_argument("--connections", nargs="+", type=int, default=[64])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024], help="of a message, in bytes")
    options = parser.parse_args(arguments)
    results.report("tls", cases(options), options)


if __name__ == "__main__":
    main()
