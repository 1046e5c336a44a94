"""Jupyter: `install()` in the configuration of its server, and in that of its kernels, which are other processes.

Notebooks are run by nbclient on this loop, by nbconvert's command line, and by the server for a client of its own.
"""

import json
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import read
from nbformat import write as write_notebook
from websockets.sync.client import connect

from tests.compat.libraries.databases import free_ports
from tests.compat.libraries.processes import module, running

from .load import LOOP, accepts, check_http, check_loop, report_of, until
from .notebook import CELLS, notebook, printed
from .told import write

ASYNCIO = "asyncio.unix_events._UnixSelectorEventLoop"
on_backends = pytest.mark.asyncio(loop_factories=("auto", "epoll"))


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The variables that give Jupyter and IPython folders of their own."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    return {name: str(tmp_path / name.lower()) for name in names}


def configure_kernels(home: dict[str, str]) -> None:
    profile = Path(home["IPYTHONDIR"]) / "profile_default"
    profile.mkdir(parents=True)
    write("ipython_kernel_config.py", profile)


def client(*cells: str, **options: Any) -> NotebookClient:
    return NotebookClient(notebook(*cells), timeout=100, startup_timeout=100, kernel_name="python3", **options)


@pytest.fixture
def kernels(home: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Kernels of this process on this loop, with the backend of the loop of the test; returns that."""
    backend = "epoll" if "epoll" in request.node.name else "io_uring"
    for name, value in (home | {"URINGLOOP_BACKEND": backend}).items():
        monkeypatch.setenv(name, value)
    configure_kernels(home)
    return backend


@on_backends
async def test_notebook(kernels: str) -> None:
    running = client(*CELLS)
    await running.async_execute()
    said = printed(running.nb.cells)
    check_loop(json.loads(said[0]), kernels)
    check_loop(json.loads(said[-1]), kernels)


@on_backends
async def test_cells_that_fail_are_interrupted_or_end_the_kernel(kernels: str) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        await client("1 / 0").async_execute()

    cells = (
        "import asyncio, time",
        "await asyncio.sleep(1000)",
        "time.sleep(1000)",
        "print(await asyncio.sleep(0, 5))",
    )
    interrupted = client(*cells, interrupt_on_timeout=True, allow_errors=True)
    async with interrupted.async_setup_kernel():
        for index, cell in enumerate(interrupted.nb.cells):
            # The others take long on a busy machine.
            interrupted.timeout = 2 if "1000" in cell.source else 100
            await interrupted.async_execute_cell(cell, index)
    errors = [
        [each["ename"] for each in cell["outputs"] if each["output_type"] == "error"] for cell in interrupted.nb.cells
    ]
    assert errors == [[], ["CancelledError"], ["KeyboardInterrupt"], []]
    assert printed(interrupted.nb.cells)[-1] == "5\n"


def test_nbconvert(backend: str, home: dict[str, str], tmp_path: Path) -> None:
    configure_kernels(home)
    path = tmp_path / "notebook.ipynb"
    write_notebook(notebook(*CELLS), path)
    command = module("nbconvert", "--to", "notebook", "--execute", "--inplace", path)
    with running(command, URINGLOOP_BACKEND=backend, **home) as program:
        assert program.wait() == 0
    check_loop(json.loads(printed(read(path, 4).cells)[0]), backend)


def executed(port: int, code: str) -> str:
    """Start a kernel of the server, run some code there, end the kernel, and return what the code printed."""
    with _request(port, "POST", "/api/kernels", b"{}") as answer:
        kernel = json.load(answer)["id"]
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": "",
        "username": "",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    text = ""
    with connect(f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels", open_timeout=100) as socket:
        socket.send(json.dumps(message))
        while True:
            got = json.loads(socket.recv(timeout=60))
            if got["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if got["msg_type"] == "stream":
                text += got["content"]["text"]
            assert got["msg_type"] != "error", got["content"]
            if got["content"].get("execution_state") == "idle":
                break
    _request(port, "DELETE", f"/api/kernels/{kernel}").close()
    return text


def _request(port: int, method: str, path: str, body: bytes | None = None) -> Any:
    return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, method=method))


@pytest.mark.parametrize("kernels_too", [False, True], ids=["server", "kernels"])
def test_server(backend: str, home: dict[str, str], static: Path, kernels_too: bool) -> None:
    """Kernels stay on asyncio's loop, but for those of the other configuration."""
    configuration = Path(home["JUPYTER_CONFIG_DIR"])
    configuration.mkdir()
    write("jupyter_server_config.py", configuration)
    if kernels_too:
        configure_kernels(home)
    (port,) = free_ports(1)
    options = [
        "--allow-root",
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
        f"--ServerApp.extra_static_paths=['{static}']",
        "--ServerApp.jpserver_extensions={'tests.consumers.apps.jupyter_extension': True}",
    ]
    with running(module("jupyter_server", *options), URINGLOOP_BACKEND=backend, **home) as server:
        until(lambda: accepts(port))
        # tornado's streams read their sockets themselves.
        check_http(port, backend, static, engine=False)
        code = "from tests.consumers.reporting import report; import asyncio\nawait asyncio.sleep(0)\nprint(report())"
        said = json.loads(executed(port, code))
        expected = (LOOP, backend) if kernels_too else (ASYNCIO, None)
        assert (said["loop"], said["backend"]) == expected
        assert report_of(port)["loop"] == LOOP
        assert server.stop() == 0
