"""How do event loops compare in messages over sockets of several families, by `sock_*` and by datagram endpoints?

    python -m benchmarks.messages --only udp_by_sock netlink_by_endpoint --rounds 7

Two sockets in one loop ask and answer 100 bytes.  uvloop has neither sock_sendto nor endpoints of such families.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

MESSAGE = b"m" * 100
RECEIVED_BYTES_MAX = 1000
NETLINK_USERSOCK = 2

Ends = tuple[socket.socket, socket.socket]


def udp() -> Ends:
    ends = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    for sock in ends:
        sock.bind(("127.0.0.1", 0))
    return _connected(ends)


def netlink() -> Ends:
    kind = socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_USERSOCK
    ends = socket.socket(*kind), socket.socket(*kind)
    for sock in ends:
        sock.bind((0, 0))
    return _connected(ends)


def seqpacket() -> Ends:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _connected(ends: Ends) -> Ends:
    near, far = ends
    near.connect(far.getsockname())
    far.connect(near.getsockname())
    return ends


@contextlib.contextmanager
def opened(make: Callable[[], Ends]) -> Iterator[Ends]:
    near, far = make()
    with near, far:
        for sock in (near, far):
            sock.setblocking(False)
        yield near, far


async def _by_sock(count: int, make: Callable[[], Ends]) -> None:
    loop = asyncio.get_running_loop()
    with opened(make) as (near, far):

        async def answer() -> None:
            for _ in range(count):
                message, _sender = await loop.sock_recvfrom(far, RECEIVED_BYTES_MAX)
                await loop.sock_sendall(far, message)

        answering = asyncio.ensure_future(answer())
        for _ in range(count):
            await loop.sock_sendall(near, MESSAGE)
            message, _sender = await loop.sock_recvfrom(near, RECEIVED_BYTES_MAX)
            if message != MESSAGE:
                raise ValueError("the answer is wrong")
        await answering


class Answering(asyncio.DatagramProtocol):
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data)


class Asking(Answering):
    def __init__(self, count: int) -> None:
        self.left = count
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.left -= 1
        if self.left > 0 and data == MESSAGE:
            self.transport.sendto(data)
        elif not self.done.done():
            self.done.set_result(data == MESSAGE)


async def _by_endpoint(count: int, make: Callable[[], Ends]) -> None:
    loop = asyncio.get_running_loop()
    with opened(make) as (near, far):
        answering, _ = await loop.create_datagram_endpoint(Answering, sock=far)
        asking, protocol = await loop.create_datagram_endpoint(lambda: Asking(count), sock=near)
        asking.sendto(MESSAGE)
        if not await protocol.done:
            raise ValueError("the answer is wrong")
        for transport in (asking, answering):
            transport.abort()
        await asyncio.sleep(0)  # connection_lost


async def udp_by_sock(count: int) -> None:
    await _by_sock(count, udp)


async def netlink_by_sock(count: int) -> None:
    await _by_sock(count, netlink)


async def seqpacket_by_sock(count: int) -> None:
    await _by_sock(count, seqpacket)


async def udp_by_endpoint(count: int) -> None:
    await _by_endpoint(count, udp)


async def netlink_by_endpoint(count: int) -> None:
    await _by_endpoint(count, netlink)


QUESTIONS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    question.__name__: question
    for question in (udp_by_sock, netlink_by_sock, seqpacket_by_sock, udp_by_endpoint, netlink_by_endpoint)
}


def main(arguments: Sequence[str] | None = None) -> None:
    from benchmarks import scheduling  # its workers import this module

    scheduling.run("messages", __doc__, list(QUESTIONS), arguments)


if __name__ == "__main__":
    main()
