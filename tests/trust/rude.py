"""TLS with peers that break off, talk nonsense, or never read, beside clients that expect to be served."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from random import Random

from tests.tls import client_context, server_context

from .counts import Counts, ask_streams, held, judge, leaked, question

_CLIENTS = 32
_RUDE = 2
_CALLS_OF_ONE = 10
_LARGE = b"z" * (1 << 20)
_PATIENCE_S = 5
#: After so long a server gives up a handshake.
_HANDSHAKE_S = 5.0


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line by itself, and `large` by a mebibyte."""
    with contextlib.suppress(OSError, ValueError):  # a line that never ends is a ValueError
        while line := await reader.readline():
            writer.write(_LARGE if line == b"large\n" else line)
            await writer.drain()
    writer.close()


async def rude_peers(seconds: float, random: Random) -> Counts:
    """Serve 32 clients by TLS while two threads of rude peers connect.

    Args:
        seconds: For how long.
        random: Chooses the rudeness and the questions.

    Returns:
        The outcomes of the questions of the clients that behave.
    """
    counts = Counts()
    tls = server_context()
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, ssl=tls, ssl_handshake_timeout=_HANDSHAKE_S)
    address = server.sockets[0].getsockname()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # asyncio reports the peers' errors there
    before = held()
    over = time.monotonic() + seconds

    async def client(who: int) -> None:
        number = 0
        while time.monotonic() < over:
            try:
                reader, writer = await asyncio.open_connection(
                    *address, ssl=client_context(), server_hostname="localhost"
                )
            except OSError:
                counts.lost += 1
                continue
            with contextlib.closing(writer):
                for _ in range(_CALLS_OF_ONE):
                    number += 1
                    await judge(counts, ask_streams(reader, writer, question(random, who, number)))

    threads = [threading.Thread(target=_be_rude, args=(Random(random.random()), address, over)) for _ in range(_RUDE)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*map(client, range(_CLIENTS)))
    for thread in threads:
        await loop.run_in_executor(None, thread.join)
    # The default executor's threads are no descriptors; connections of rude peers end with their handshake's time.
    counts.leaked = await leaked(before)
    server.close()
    return counts


def _be_rude(random: Random, address: tuple[str, int], over: float) -> None:
    while time.monotonic() < over:
        with socket.create_connection(address, timeout=_PATIENCE_S) as sock, contextlib.suppress(OSError):
            random.choice(_RUDENESS)(random, sock)


def _reset(sock: socket.socket) -> None:
    """Close by RST, as socket(7) describes SO_LINGER."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class _Peer:
    """A client whose records stand in memory, so that it may send any part of them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send()
                data = self.sock.recv(1 << 16)
                if not data:
                    raise ConnectionResetError from None
                self.incoming.write(data)
            else:
                self.send()
                return

    def send(self) -> None:
        self.sock.sendall(self.outgoing.read())


def _talk_nonsense(random: Random, sock: socket.socket) -> None:
    sock.sendall(random.randbytes(random.randrange(1, 2000)))
    sock.recv(1 << 16)


def _stay_silent(random: Random, sock: socket.socket) -> None:
    time.sleep(random.random() * 0.1)


def _break_off_the_handshake(random: Random, sock: socket.socket) -> None:
    peer = _Peer(sock)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    hello = peer.outgoing.read()
    sock.sendall(hello[: random.randrange(1, len(hello) + 1)])
    _reset(sock)


def _reset_after_the_handshake(random: Random, sock: socket.socket) -> None:
    _Peer(sock).shake_hands()
    _reset(sock)


def _close_without_notice(random: Random, sock: socket.socket) -> None:
    peer = _Peer(sock)
    peer.shake_hands()
    peer.tls.write(b"hello\n" * random.randrange(1, 100))
    peer.send()


def _corrupt_a_record(random: Random, sock: socket.socket) -> None:
    peer = _Peer(sock)
    peer.shake_hands()
    peer.tls.write(b"hello\n" * random.randrange(1, 1000))
    record = bytearray(peer.outgoing.read())
    record[random.randrange(len(record))] ^= 1 << random.randrange(8)
    sock.sendall(record)
    sock.recv(1 << 16)


def _send_half_a_record(random: Random, sock: socket.socket) -> None:
    peer = _Peer(sock)
    peer.shake_hands()
    peer.tls.write(b"hello\n" * 1000)
    record = peer.outgoing.read()
    sock.sendall(record[: random.randrange(1, len(record))])
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1 << 16)


def _never_read(random: Random, sock: socket.socket) -> None:
    peer = _Peer(sock)
    peer.shake_hands()
    peer.tls.write(b"large\n" * random.randrange(1, 8))
    peer.send()
    time.sleep(random.random() * 0.05)
    _reset(sock)


def _talk_after_goodbye(random: Random, sock: socket.socket) -> None:
    peer = _Peer(sock)
    peer.shake_hands()
    with contextlib.suppress(ssl.SSLError):
        peer.tls.unwrap()
    peer.send()
    sock.sendall(random.randbytes(100))
    sock.recv(1 << 16)


_RUDENESS: list[Callable[[Random, socket.socket], None]] = [
    _talk_nonsense,
    _stay_silent,
    _break_off_the_handshake,
    _reset_after_the_handshake,
    _close_without_notice,
    _corrupt_a_record,
    _send_half_a_record,
    _never_read,
    _talk_after_goodbye,
]
