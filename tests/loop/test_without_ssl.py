"""A Python without the module ssl: the loop runs, and a connection over TLS is refused as asyncio refuses it."""

import pytest

from tests.children import script

WITHOUT_SSL = """
import sys
sys.modules["ssl"] = sys.modules["_ssl"] = None
import asyncio, socket
import uringloop

async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()
    await writer.wait_closed()

async def refused(awaitable):
    try:
        await awaitable
    except RuntimeError as error:
        print(error)

async def main():
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        await refused(loop.start_tls(writer.transport, writer.transport.get_protocol(), object()))
        writer.write(b"line\\n")
        print(await reader.readline())
        writer.close()
        await writer.wait_closed()
        with socket.create_connection(address) as sock:
            await refused(asyncio.open_connection(sock=sock, ssl=True, server_hostname="localhost"))
"""


@pytest.mark.parametrize("backend", ["auto", "epoll"])
def test_connections_as_with_asyncio(backend: str) -> None:
    ours = script(f"{WITHOUT_SSL}\nuringloop.run(main(), backend={backend!r})\n")
    assert ours == script(f"{WITHOUT_SSL}\nasyncio.run(main())\n")
    assert ours.splitlines() == [
        "Python ssl module is not available",
        "b'line\\n'",
        "stdlib ssl module not available",
    ]


def test_the_doctor_tells() -> None:
    source = """
import runpy, sys
sys.modules["ssl"] = sys.modules["_ssl"] = None
sys.argv = ["uringloop"]
runpy.run_module("uringloop", run_name="__main__")
"""
    assert "this Python has no module ssl" in script(source)
