"""aioquic: streams of many sizes over QUIC, between its server and its client, and connections that leave."""

import asyncio
import os
import ssl

import pytest
from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration

from tests.tls import CERTIFICATE

from .load import statistics

pytestmark = pytest.mark.asyncio(loop_factories=("auto", "epoll"))

PROTOCOL = "echo"


def configuration(*, server: bool) -> QuicConfiguration:
    made = QuicConfiguration(is_client=not server, alpn_protocols=[PROTOCOL])
    made.verify_mode = ssl.CERT_NONE
    if server:
        made.load_cert_chain(CERTIFICATE, CERTIFICATE)
    return made


_answering: set[asyncio.Task[None]] = set()


def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def echo() -> None:
        writer.write(await reader.read())
        writer.write_eof()

    task = asyncio.ensure_future(echo())
    _answering.add(task)
    task.add_done_callback(_answering.discard)


async def test_streams_of_several_connections() -> None:
    server = await serve("127.0.0.1", 0, configuration=configuration(server=True), stream_handler=answer)
    port = server._transport.get_extra_info("sockname")[1]

    async def one(client: object, size_bytes: int) -> None:
        body = os.urandom(size_bytes)
        reader, writer = await client.create_stream()  # type: ignore[attr-defined]
        writer.write(body)
        writer.write_eof()
        assert await reader.read() == body

    async def converse() -> None:
        async with connect("127.0.0.1", port, configuration=configuration(server=False)) as client:
            await asyncio.gather(*(one(client, size_bytes) for size_bytes in (1, 1000, 60_000, 200_000) * 3))

    await asyncio.gather(*(converse() for _ in range(8)))
    assert statistics()["datagrams"] > 0
    leaving = asyncio.ensure_future(converse())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    await converse()
    server.close()
    while server._protocols:
        await asyncio.sleep(0.01)
    await asyncio.gather(*_answering)
