"""How much memory does an idle connection take?

    python -m benchmarks.memory --connections 1000 --rounds 3

What a server's process has more after so many connections were made, and each echoed one message; the kernel's own
memory for the sockets, which is the same for all, is not in it.  Each time in a new process.
"""

import argparse
import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.echo import connections_text
from benchmarks.results import Case, Figures
from benchmarks.runner import Disqualified, Server, Servers

MESSAGE = bytes(range(256)) * 4
TIMEOUT_S = 10.0
MODES = ("protocol", "streams")


def memory_kib(server: Server) -> int:
    """Of its own, and its share of what it shares."""
    found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{server.pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def connect(server: Server) -> socket.socket:
    """A connection that has been used once."""
    connection = socket.create_connection(("127.0.0.1", int(server.address)), timeout=TIMEOUT_S)
    connection.sendall(MESSAGE)
    if connection.recv(len(MESSAGE), socket.MSG_WAITALL) != MESSAGE:
        raise Disqualified("content differs")
    return connection


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for mode in options.modes:
        with Servers(mode) as servers:

            def measure(contender: str, servers: Servers = servers) -> Figures:
                server = servers[contender]
                try:
                    with contextlib.ExitStack() as connections:
                        connections.enter_context(connect(server))  # what the first one costs is not a connection's
                        before = memory_kib(server)
                        for _ in range(options.connections):
                            connections.enter_context(connect(server))
                        return {"value": (memory_kib(server) - before) / options.connections, "process_kib": before}
                except OSError as error:
                    raise Disqualified(str(error)) from error
                finally:
                    servers.stop(contender)

            name = f"memory of an idle connection, {mode}, {connections_text(options.connections)}"
            yield Case(name, measure, options.loops, "KiB", lower_is_better=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, rounds=3)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--connections", type=int, default=1000)
    options = parser.parse_args(arguments)
    results.report("memory", cases(options), options)


if __name__ == "__main__":
    main()
