"""A server that counts the datagrams which arrive, and tells the count to those that ask."""

import asyncio
from typing import Any

from benchmarks.servers.listening import keep

#: The datagram that asks for the count.
QUESTION = b"?"
COUNT_BYTES = 8
#: One datagram in so many is compared: comparing all would take much of the measured time.
COMPARED = 16


def content(size_bytes: int) -> bytes:
    """Return the bytes of every datagram of this size."""
    return bytes(range(256)) * (size_bytes // 256) + bytes(range(size_bytes % 256))


class Counting(asyncio.DatagramProtocol):
    """Counts right datagrams; a wrong one ends the server."""

    transport: Any

    def __init__(self) -> None:
        self.count = 0
        self.expected = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data == QUESTION:
            self.transport.sendto(self.count.to_bytes(COUNT_BYTES, "big"), addr)
            return
        if len(data) != len(self.expected):
            self.expected = content(len(data))
        if self.count % COMPARED == 0 and data != self.expected:
            self.transport.abort()
        self.count += 1


async def counting(address: str) -> str:
    endpoint = ("127.0.0.1", int(address))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Counting, local_addr=endpoint)
    keep(transport)
    return str(transport.get_extra_info("sockname")[1])
