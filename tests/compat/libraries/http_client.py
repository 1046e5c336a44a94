"""What every HTTP server of these tests is asked, with the standard library's blocking client: no loop of ours here."""

import hashlib
import http.client
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from .asgi import HALVES
from .processes import TIMEOUT_SECONDS

LOCALHOST = "127.0.0.1"
LARGE_BYTES = 8 << 20
_PIECE_BYTES = 100_000


def large_body() -> bytes:
    return random.Random(16).randbytes(LARGE_BYTES)


def connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(LOCALHOST, port, timeout=TIMEOUT_SECONDS)


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    return body


def ask_for_loop(port: int) -> tuple[str, int]:
    """The class of the server's loop, and its process."""
    connection = connect(port)
    try:
        kind, pid = get(connection, "/loop").decode().split()
    finally:
        connection.close()
    return kind, int(pid)


def check_that_all_answer(port: int, kind: str, workers: set[int]) -> None:
    """Connections are shared by all workers; of sixty each gets about twenty, of more on a busy machine."""
    answered: set[int] = set()
    for _ in range(60 * 20):
        answering, pid = ask_for_loop(port)
        assert answering == kind
        answered.add(pid)
        if answered == workers:
            break
    assert answered == workers


def check_keep_alive(port: int) -> None:
    """Many on one connection, bodies of all sizes, and it stays the same connection."""
    connection = connect(port)
    connection.connect()
    sock = connection.sock
    for size_bytes in (0, 1, 1000, 65_535, 65_536, 65_537, 1_000_000, 3) * 5:
        assert len(get(connection, f"/bytes?{size_bytes}")) == size_bytes
        assert connection.sock is sock
    connection.close()


def check_pipelining(port: int, count: int = 50) -> None:
    """All asked at once, before the first answer is read; the answers come in order."""
    with socket.create_connection((LOCALHOST, port), TIMEOUT_SECONDS) as sock:
        asked = b"".join(b"GET /bytes?%d HTTP/1.1\r\nHost: here\r\n\r\n" % size for size in range(1, count))
        sock.sendall(asked + b"GET /bytes?%d HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n" % count)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == count
    assert answer.count(b"\0") == sum(range(1, count + 1))


def check_large_bodies(port: int) -> None:
    """Eight MiB to the server, by length and chunked, and from it; then to it and back at once."""
    body = large_body()
    digest = hashlib.sha256(body).hexdigest().encode()
    connection = connect(port)
    connection.request("POST", "/digest", body=body)
    assert connection.getresponse().read() == digest
    connection.request("POST", "/digest", body=_pieces(body), encode_chunked=True)
    assert connection.getresponse().read() == digest
    assert get(connection, f"/bytes?{LARGE_BYTES}") == bytes(LARGE_BYTES)
    with ThreadPoolExecutor(1) as writer:
        _ask_for_echo(connection, len(body))
        written = writer.submit(connection.send, body)
        assert connection.getresponse().read() == body
        written.result()
    connection.close()


def check_client_that_leaves(port: int) -> None:
    """In the middle of an answer, and in the middle of a body: the server goes on."""
    for ask in (
        lambda leaver: leaver.request("GET", f"/bytes?{LARGE_BYTES}"),
        lambda leaver: _ask_for_echo(leaver, 10),
    ):
        leaver = connect(port)
        ask(leaver)
        leaver.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaver.close()
    check_keep_alive(port)


class HalfDone:
    """An answer that has begun, and goes on when `finish` says so: the server must see it through before it ends."""

    def __init__(self, port: int) -> None:
        self._connection = connect(port)
        with socket.create_server((LOCALHOST, 0)) as listener:
            listener.settimeout(TIMEOUT_SECONDS)
            self._connection.request("GET", f"/held?{listener.getsockname()[1]}")
            self._hold, _ = listener.accept()
        self._answer = self._connection.getresponse()
        assert self._answer.read(len(HALVES[0])) == HALVES[0]

    def finish(self) -> None:
        self._hold.close()
        assert self._answer.read() == HALVES[1]
        self._connection.close()


def _ask_for_echo(connection: http.client.HTTPConnection, size_bytes: int) -> None:
    connection.putrequest("POST", "/echo")
    connection.putheader("Content-Length", str(size_bytes))
    connection.endheaders()


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
