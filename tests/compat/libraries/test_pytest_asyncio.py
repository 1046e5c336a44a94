"""pytest-asyncio and anyio's pytest plugin: a test session of its own, with a conftest.py as they document it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import environment

from .needs import library

library("pytest_asyncio")
library("anyio")

pytestmark = pytest.mark.compat

BY_PYTEST_ASYNCIO = {
    "conftest.py": """
        import uringloop


        def pytest_asyncio_loop_factories(config, item):
            return {"uringloop": uringloop.new_event_loop}
        """,
    "test_loop.py": """
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
        """,
}
BY_ANYIO = {
    "conftest.py": """
        import pytest
        import uringloop


        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": uringloop.new_event_loop}
        """,
    "test_loop.py": """
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
        """,
}


@pytest.mark.parametrize("files", [BY_PYTEST_ASYNCIO, BY_ANYIO], ids=["pytest-asyncio", "anyio"])
def test_session(files: dict[str, str], tmp_path: Path) -> None:
    for name, source in files.items():
        (tmp_path / name).write_text("\n".join(line.removeprefix(" " * 8) for line in source.splitlines()))
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-q", "."]
    options = ["-o", "asyncio_default_fixture_loop_scope=function", "-o", "filterwarnings=error"]
    finished = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=100
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "3 passed" in finished.stdout
