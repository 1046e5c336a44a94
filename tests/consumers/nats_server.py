"""The real NATS, from Debian's package."""

import contextlib
import signal
from collections.abc import Iterator

from tests.compat.libraries.databases import free_ports
from tests.compat.libraries.needs import program
from tests.compat.libraries.processes import running


@contextlib.contextmanager
def nats_server() -> Iterator[str]:
    """Run a server, and yield its address."""
    (port,) = free_ports(1)
    with running([program("nats-server", "nats-server"), "-a", "127.0.0.1", "-p", str(port)]) as server:
        server.until_says("Server is ready")
        yield f"nats://127.0.0.1:{port}"
        server.stop(signal.SIGINT)
