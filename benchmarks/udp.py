"""How do event loops compare in UDP echo?

    python -m benchmarks.udp --connections 1 32 --rounds 5 --json udp.json

The server is one endpoint, alone on one CPU; the load generator has another one, and a socket for each connection.  A
datagram lost on the way disqualifies: with one outstanding on each connection, no buffer of the kernel overflows.  The
kernel's own work on a datagram is most of its cost on both sides, so the load generator (marked with * where it is busy
all the time) is exhausted not long after the fastest servers; the CPU time per message says more then.
"""

import argparse
import asyncio
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import echo


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    print(f"listening on {host}:{port}", flush=True)
    await loop.create_future()


def run_server(loop: str) -> None:
    module, _, factory = loop.partition(":")
    with asyncio.Runner(loop_factory=getattr(importlib.import_module(module), factory)) as runner:
        runner.run(serve())


def measure(mode: str, connections: int, options: argparse.Namespace) -> dict[str, echo.Outcome]:
    return echo.compare(
        lambda loop: [sys.executable, "-m", "benchmarks.udp", "--serve", echo.CONTENDERS[loop]],
        connections,
        options,
        datagrams=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = echo.parser("UDP echo: how do event loops compare?", [1, 32])
    parser.add_argument("--serve", metavar="MODULE:FACTORY", help="be the server, on this loop")
    options = parser.parse_args(arguments)
    if options.serve:
        run_server(options.serve)
    else:
        echo.report("udp", ["datagrams"], options, measure)


if __name__ == "__main__":
    main()
