"""granian, whose command line names its loops: a program of one's own registers another."""

import sys
from pathlib import Path

from tests.compat.libraries.databases import free_ports
from tests.compat.libraries.processes import running

from .load import accepts, check_http, until
from .told import write


def test_http(backend: str, static: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    program = write("serve_granian.py", tmp_path)
    text = program.read_text().replace("application:app", "tests.consumers.apps.starlette_app:app")
    program.write_text(text.replace("8000", str(port)))
    command = [sys.executable, "-W", "always::ResourceWarning", program]
    with running(command, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        until(lambda: accepts(port))
        # Its sockets are those of its Rust half.
        check_http(port, backend, static, engine=False)
        assert server.stop() == 0
