"""uvicorn's other switches: `uvicorn.run`, and those that do not give this loop."""

import signal
import sys
from pathlib import Path

import pytest

from tests.compat.libraries.databases import free_ports
from tests.compat.libraries.processes import module, running

from .load import accepts, check_http, report_of, until
from .test_starlette import ADDRESS, APPLICATION, RUNNING
from .told import write

INSTALLED = f"import uringloop; uringloop.install(); from {APPLICATION.partition(':')[0]} import app"


def test_run(backend: str, static: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    program = write("serve_uvicorn.py", tmp_path)
    program.write_text(program.read_text().replace("application:app", APPLICATION).replace("8000", str(port)))
    command = [sys.executable, "-W", "always::ResourceWarning", program]
    with running(command, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        until(lambda: accepts(port))
        check_http(port, backend, static)
        assert server.stop() == -signal.SIGTERM


def test_install_in_the_module_of_the_application(backend: str, static: Path, tmp_path: Path) -> None:
    """With the switch that leaves the making of the loop to asyncio."""
    (tmp_path / "installed.py").write_text(INSTALLED)
    command = module("uvicorn", "--loop", "none", *ADDRESS, "installed:app")
    variables = {"URINGLOOP_BACKEND": backend, "CONSUMERS_STATIC": str(static)}
    with running(command, {"cwd": tmp_path}, **variables) as server:
        check_http(int(server.until_says(RUNNING)[0]), backend, static)
        assert server.stop() == -signal.SIGTERM


def test_name_of_the_package_alone_is_refused(static: Path) -> None:
    with running(
        module("uvicorn", "--loop", "uringloop", *ADDRESS, APPLICATION), CONSUMERS_STATIC=str(static)
    ) as server:
        server.until_says('must be in format "<module>:<attribute>"')
        assert server.wait() != 0


@pytest.mark.parametrize("loop", ["asyncio", "uringloop"])
def test_install_says_which_option_to_write(static: Path, tmp_path: Path, loop: str) -> None:
    (tmp_path / "installed.py").write_text(INSTALLED)
    command = module("uvicorn", "--loop", loop, *ADDRESS, "installed:app")
    with running(command, {"cwd": tmp_path}, CONSUMERS_STATIC=str(static)) as server:
        server.until_says(r"RuntimeWarning: uvicorn makes the loop .* write: uvicorn --loop uringloop:new_event_loop")
        if loop == "asyncio":
            port = int(server.until_says(RUNNING)[0])
            assert report_of(port)["loop"] == "asyncio.unix_events._UnixSelectorEventLoop"
