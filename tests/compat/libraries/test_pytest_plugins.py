"""pytest-asyncio and anyio's pytest plugin: a test session of its own, with the conftest.py of docs/libraries.md."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import environment

from .needs import library
from .told import block

library("pytest_asyncio")
library("anyio")

pytestmark = pytest.mark.compat

BY_PYTEST_ASYNCIO = """
import asyncio

import pytest
import pytest_asyncio
import uringloop


@pytest_asyncio.fixture
async def port():
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1") as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.asyncio
async def test_loop(port):
    assert type(asyncio.get_running_loop()) is uringloop.EventLoop
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio(loop_scope="module")
class TestShared:
    async def test_first(self):
        TestShared.loop = asyncio.get_running_loop()
        assert type(TestShared.loop) is uringloop.EventLoop

    async def test_second(self):
        assert asyncio.get_running_loop() is TestShared.loop
"""
BY_ANYIO = """
import asyncio

import anyio
import pytest
import uringloop

pytestmark = pytest.mark.anyio


@pytest.fixture
async def listener():
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        yield listener


async def test_loop(listener):
    assert type(asyncio.get_running_loop()) is uringloop.EventLoop
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    client = await anyio.connect_tcp("127.0.0.1", port)
    async with client, await listener.listeners[0].accept() as server:
        await client.send(b"here")
        assert await server.receive() == b"here"


async def test_other():
    await anyio.sleep(0)


async def test_another(listener):
    await anyio.to_thread.run_sync(lambda: None)
"""


@pytest.mark.parametrize(
    ("conftest", "tests"),
    [("pytest_asyncio_loop_factories", BY_PYTEST_ASYNCIO), ("anyio_backend", BY_ANYIO)],
    ids=["pytest-asyncio", "anyio"],
)
def test_session(conftest: str, tests: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(block(conftest))
    (tmp_path / "test_loop.py").write_text(tests)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-q", "."]
    options = ["-o", "asyncio_default_fixture_loop_scope=function", "-o", "filterwarnings=error"]
    finished = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=100
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "3 passed" in finished.stdout
