"""TLS as the newest asyncio has it: early hellos, peers that read nothing, and no cycle of a failure."""

import asyncio
import contextlib
import gc
import ssl
import weakref

import pytest

from tests.tls import client_context, server_context
from tests.variants import BACKENDS

from .helpers import Recorder, pattern, serving
from .test_tls import converse_over_tls
from .test_tls_records import facing_peer

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)


@pytest.mark.parametrize("engine", ["openssl", "asyncio"])
async def test_a_hello_that_came_before_the_upgrade_is_read(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URINGLOOP_TLS", engine)

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader._wait_for_data("upgrade")  # type: ignore[attr-defined]
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    await converse_over_tls(upgrade)


@pytest.mark.parametrize("closes_first", [True, False])
async def test_a_close_is_not_put_off_by_a_peer_that_reads_nothing(closes_first: bool) -> None:
    ours = Recorder()
    async with facing_peer(ours, ssl_shutdown_timeout=0.01) as peer:
        ours.transport.write(pattern(8_000_000))
        if closes_first:
            ours.transport.close()
        peer.end()
        await ours.until_called("connection_lost")
        assert isinstance(ours.lost_with, TimeoutError)
        assert str(ours.lost_with) == "SSL shutdown timed out"


async def test_a_failed_upgrade_leaves_no_cycle() -> None:
    loop = asyncio.get_running_loop()

    class Refused(asyncio.Protocol):
        pass

    class Server(Recorder):
        def data_received(self, data: bytes) -> None:
            self.transport.write(b"no TLS here\n")

    async def fail(address: tuple[str, int]) -> "weakref.ref[asyncio.BaseTransport]":
        transport, protocol = await loop.create_connection(Refused, *address)
        with contextlib.suppress(ssl.SSLError):
            await loop.start_tls(transport, protocol, client_context(), server_hostname="x")
        return weakref.ref(transport)

    server = Server()
    async with serving(lambda: server) as address:
        gc.collect()
        gc.disable()
        try:
            left = await fail(address)
            await server.until_called("connection_lost")
            assert left() is None
        finally:
            gc.enable()
