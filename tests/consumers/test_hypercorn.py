"""hypercorn's command line, with `uringloop.install()` where it reaches the workers, and where it does not."""

from pathlib import Path

import pytest

from tests.compat.libraries.processes import Server, module, running

from .load import check_http, report_of
from .test_starlette import APPLICATION
from .test_uvicorn import INSTALLED

INSTALL = "import uringloop; uringloop.install()\n"


def port_of(server: Server) -> int:
    return int(server.until_says(r"Running on http://127\.0\.0\.1:(\d+)")[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_install_in_the_module_of_the_application(backend: str, static: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "installed.py").write_text(INSTALLED)
    command = module("hypercorn", "--bind", "127.0.0.1:0", "--workers", str(workers), "installed:app")
    with running(command, {"cwd": tmp_path}, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        check_http(port_of(server), backend, static)
        assert server.stop() == 0


def test_install_in_the_configuration_without_workers(backend: str, static: Path, tmp_path: Path) -> None:
    (tmp_path / "configuration.py").write_text(f'workers = 0\n{INSTALL}bind = "127.0.0.1:0"\n')
    command = module("hypercorn", "-c", "file:configuration.py", APPLICATION)
    with running(command, {"cwd": tmp_path}, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        check_http(port_of(server), backend, static)
        assert server.stop() == 0


def test_install_in_the_configuration_alone_has_no_effect(static: Path, tmp_path: Path) -> None:
    (tmp_path / "configuration.py").write_text(f'{INSTALL}bind = "127.0.0.1:0"\n')
    command = module("hypercorn", "-c", "file:configuration.py", APPLICATION)
    with running(command, {"cwd": tmp_path}, CONSUMERS_STATIC=str(static)) as server:
        server.until_says("RuntimeWarning: hypercorn's workers do not run its configuration file")
        assert report_of(port_of(server))["loop"] == "asyncio.unix_events._UnixSelectorEventLoop"
        assert server.stop() == 0
