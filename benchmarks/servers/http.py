"""A server of HTTP and HTTPS that answers each request alike, so that its clients are measured and not it."""

import asyncio
from typing import Any

from benchmarks.servers.listening import listen, tls_context

BODY = b"0123456789abcdef" * 64
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
END = b"\r\n\r\n"


class Answering(asyncio.Protocol):
    """Requests have no body."""

    transport: Any
    rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self.rest = (self.rest + data).split(END)
        self.transport.write(ANSWER * len(requests))


async def http(address: str) -> str:
    return await listen(Answering, address)


async def https(address: str) -> str:
    return await listen(Answering, address, tls_context())
