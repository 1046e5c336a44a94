"""How do event loops compare in echo, over TCP and unix sockets?

    python -m benchmarks.echo --modes protocol --transports tcp --connections 1 64 1000 --rounds 5 --json echo.json

C servers, one on epoll and one on io_uring, are the limit.  Where the load generator is busy all the time (marked with
*), it bounds the rate, and the CPU time per message says more.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks import contenders, results
from benchmarks.results import Case
from benchmarks.runner import Load, Servers

MODES = ("protocol", "buffered", "streams", "sock")
TRANSPORTS = ("tcp", "unix")


def bytes_text(size: int) -> str:
    return f"{size // 1024} KiB" if size % 1024 == 0 else f"{size} B"


def connections_text(number: int) -> str:
    return "1 connection" if number == 1 else f"{number:,} connections"


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for transport, mode in product(options.transports, options.modes):
        beside = contenders.with_streams(options.loops) if mode == "streams" else []
        limits = [] if options.no_limits or mode != "protocol" else list(contenders.C_SERVERS)
        with Servers(mode, unix=transport == "unix") as servers:
            for connections, size, depth in product(options.connections, options.sizes, options.depths):
                yield Case(
                    f"{transport} {mode}, {connections_text(connections)}, {bytes_text(size)}, depth {depth}",
                    Load("load", servers, options.seconds, c=connections, s=size, d=depth),
                    [*options.loops, *beside, *limits],
                )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, transports=True)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--transports", nargs="+", choices=TRANSPORTS, default=TRANSPORTS)
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 64, 1000])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024], help="of a message, in bytes")
    parser.add_argument("--depths", nargs="+", type=int, default=[1], help="messages outstanding on each connection")
    parser.add_argument("--no-limits", action="store_true", help="without the C servers")
    options = parser.parse_args(arguments)
    results.report("echo", cases(options), options)


if __name__ == "__main__":
    main()
