"""asyncssh: commands, SFTP, a forwarded port and cancelled commands between its server and its client."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from .load import check_engine, statistics

pytestmark = pytest.mark.asyncio(loop_factories=("auto", "epoll"))

CONNECTIONS = 8
COMMANDS = 100


async def answer(process: asyncssh.SSHServerProcess) -> None:
    """Send the input back, or wait for the end of the channel."""
    if process.command == "wait":
        process.stdout.write(b"waiting")
        await process.wait_closed()
        return
    process.stdout.write(await process.stdin.read())
    process.exit(3)


class Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, *_: Any) -> bool:
        return True


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[int]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[key],
        process_factory=answer,
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(folder)),
        encoding=None,
    )
    try:
        yield server.get_port()
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with asyncssh.connect("127.0.0.1", port, known_hosts=None, config=None, username="tester") as connection:
        yield connection
    await connection.wait_closed()


async def test_commands_on_many_connections(tmp_path: Path) -> None:
    before = statistics()

    async def one(connection: asyncssh.SSHClientConnection, number: int) -> None:
        body = os.urandom(1 + number * 500)
        done = await connection.run("echo", input=body, encoding=None)
        assert (done.stdout, done.exit_status) == (body, 3)

    async with serving(tmp_path) as port, contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(port)) for _ in range(CONNECTIONS)]
        await asyncio.gather(*(one(connections[number % CONNECTIONS], number) for number in range(COMMANDS)))
    check_engine(before)


async def test_cancelled_command_leaves_the_connection_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as port, connected(port) as connection:
        for _ in range(5):
            process = await connection.create_process("wait", encoding=None)
            assert await process.stdout.readexactly(7) == b"waiting"
            waiting = asyncio.ensure_future(process.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            process.terminate()
            process.close()
            await process.wait_closed()
        done = await connection.run("echo", input="after")
        assert done.stdout == "after"


async def test_sftp(tmp_path: Path) -> None:
    body = os.urandom(3_000_000)
    (tmp_path / "served").mkdir()
    (tmp_path / "sent").write_bytes(body)
    async with serving(tmp_path / "served") as port, connected(port) as connection:
        async with connection.start_sftp_client() as client:
            await client.put(str(tmp_path / "sent"), "there")
            await client.get("there", str(tmp_path / "back"))
            assert await client.listdir(".") == [".", "..", "there"]
        assert (tmp_path / "served" / "there").read_bytes() == (tmp_path / "back").read_bytes() == body


async def test_forwarded_port(tmp_path: Path) -> None:
    body = os.urandom(500_000)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(len(body)))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with (
        await asyncio.start_server(echo, "127.0.0.1", 0) as far,
        serving(tmp_path) as port,
        connected(port) as connection,
    ):
        listener = await connection.forward_local_port("127.0.0.1", 0, *far.sockets[0].getsockname())

        async def through() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            writer.write(body)
            answer = await reader.readexactly(len(body))
            writer.close()
            await writer.wait_closed()
            return answer

        assert await asyncio.gather(*[through() for _ in range(5)]) == [body] * 5
        listener.close()
        await listener.wait_closed()
