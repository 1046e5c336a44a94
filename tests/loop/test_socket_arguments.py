"""`loop.sock_*` called wrongly: asyncio's exceptions, and nothing left pinned or in flight."""

import asyncio
import io
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.variants import USUAL

from .helpers import LOCALHOST, Recorder, facing_socket, socket_pair

pytestmark = pytest.mark.asyncio(loop_factories=USUAL)

Call = Callable[[Any, Any], Coroutine[Any, Any, Any]]

#: Every method with arguments that would do.
CALLS: dict[str, Call] = {
    "recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", (LOCALHOST, 1)),
    "connect": lambda loop, sock: loop.sock_connect(sock, (LOCALHOST, 1)),
    "accept": lambda loop, sock: loop.sock_accept(sock),
    "sendfile": lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(b"x")),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)

_STRIDED = memoryview(bytearray(10))[::2]

#: Arguments that will not do, and what asyncio says.
WRONG: dict[str, tuple[Call, type[BaseException]]] = {
    "recv negative": (lambda loop, sock: loop.sock_recv(sock, -1), ValueError),
    "recv str": (lambda loop, sock: loop.sock_recv(sock, "1"), TypeError),
    "recv float": (lambda loop, sock: loop.sock_recv(sock, 1.0), TypeError),
    "recv None": (lambda loop, sock: loop.sock_recv(sock, None), TypeError),
    "recv_into bytes": (lambda loop, sock: loop.sock_recv_into(sock, b"constant"), TypeError),
    "recv_into read-only": (lambda loop, sock: loop.sock_recv_into(sock, memoryview(b"constant")), TypeError),
    "recv_into strided": (lambda loop, sock: loop.sock_recv_into(sock, _STRIDED), TypeError),
    "recv_into str": (lambda loop, sock: loop.sock_recv_into(sock, "text"), TypeError),
    "recv_into None": (lambda loop, sock: loop.sock_recv_into(sock, None), TypeError),
    "recvfrom negative": (lambda loop, sock: loop.sock_recvfrom(sock, -1), ValueError),
    "recvfrom str": (lambda loop, sock: loop.sock_recvfrom(sock, "1"), TypeError),
    "recvfrom_into bytes": (lambda loop, sock: loop.sock_recvfrom_into(sock, b"constant"), TypeError),
    "recvfrom_into strided": (lambda loop, sock: loop.sock_recvfrom_into(sock, _STRIDED), TypeError),
    "recvfrom_into negative": (lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), -1), ValueError),
    "recvfrom_into too much": (lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), 2), ValueError),
    "recvfrom_into str": (lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), "1"), TypeError),
    "recvfrom_into int": (lambda loop, sock: loop.sock_recvfrom_into(sock, 1), TypeError),
    "sendall str": (lambda loop, sock: loop.sock_sendall(sock, "text"), TypeError),
    "sendall int": (lambda loop, sock: loop.sock_sendall(sock, 1), TypeError),
    "sendall None": (lambda loop, sock: loop.sock_sendall(sock, None), TypeError),
    "sendall strided": (lambda loop, sock: loop.sock_sendall(sock, _STRIDED), BufferError),
    "sendto str": (lambda loop, sock: loop.sock_sendto(sock, "text", (LOCALHOST, 1)), TypeError),
    "sendto None": (lambda loop, sock: loop.sock_sendto(sock, b"x", None), TypeError),
    "sendto strided": (lambda loop, sock: loop.sock_sendto(sock, _STRIDED, (LOCALHOST, 1)), BufferError),
    "sendfile text": (lambda loop, sock: loop.sock_sendfile(sock, SimpleNamespace(mode="r")), ValueError),
    "sendfile count 0": (lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(), 0, 0), ValueError),
    "sendfile count -1": (lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(), 0, -1), ValueError),
    "sendfile count float": (lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(), 0, 1.5), TypeError),
    "sendfile offset -1": (lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(), -1), ValueError),
    "sendfile offset str": (lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(), "1"), TypeError),
    "sendfile offset None": (lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(), None), TypeError),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_arguments_raise_what_asyncio_raises(name: str) -> None:
    call, expected = WRONG[name]
    with socket_pair() as (left, _), pytest.raises(expected):
        await call(asyncio.get_running_loop(), left)


@pytest.mark.parametrize("target", [None, 1, "127.0.0.1", ("127.0.0.1",), (LOCALHOST, 65536), (LOCALHOST, -1), (1, 1)])
async def test_a_wrong_address_to_connect_to(target: Any) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises((TypeError, ValueError, OverflowError)):
            await asyncio.get_running_loop().sock_connect(sock, target)


@pytest.mark.parametrize(
    ("target", "expected"),
    [(None, TypeError), (1, TypeError), (Path("x"), TypeError), (("a", 1), TypeError), ("x" * 109, OSError)],
)
async def test_a_wrong_path_to_connect_to(target: Any, expected: type[BaseException]) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        with pytest.raises(expected):
            await asyncio.get_running_loop().sock_connect(sock, target)


@each_call
@pytest.mark.parametrize("sock", [None, 1, "socket"])
async def test_what_is_no_socket_is_refused(call: Call, sock: Any) -> None:
    with pytest.raises(AttributeError):
        await call(asyncio.get_running_loop(), sock)


@each_call
async def test_a_closed_socket_is_refused(call: Call) -> None:
    with socket_pair() as (left, _):
        left.close()
        with pytest.raises((OSError, ValueError)):
            await call(asyncio.get_running_loop(), left)


@each_call
async def test_a_tls_socket_is_refused(call: Call) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket_pair() as (left, _),
        context.wrap_socket(left.dup(), do_handshake_on_connect=False) as wrapped,
        pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"),
    ):
        await call(asyncio.get_running_loop(), wrapped)


@each_call
async def test_a_blocking_socket_is_refused_in_debug_mode(call: Call) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    with socket_pair() as (left, _):
        for timeout in (None, 1.0):
            left.settimeout(timeout)
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await call(loop, left)


@pytest.mark.parametrize("name", ["recv", "recv_into", "recvfrom", "recvfrom_into"])
async def test_the_socket_of_a_transport_is_refused(name: str) -> None:
    async with facing_socket(Recorder()) as (protocol, _):
        sock = protocol.transport.get_extra_info("socket")._sock
        with pytest.raises(RuntimeError, match="is used by transport"):
            await CALLS[name](asyncio.get_running_loop(), sock)


@pytest.mark.parametrize("name", ["recv", "recv_into", "recvfrom", "recvfrom_into", "accept"])
async def test_a_closed_loop_is_refused(name: str) -> None:
    loop = type(asyncio.get_running_loop())()
    loop.close()
    with socket_pair() as (left, _), socket.create_server((LOCALHOST, 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            await CALLS[name](loop, listener if name == "accept" else left)


async def test_nothing_can_be_sent_as_well() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as left, socket.socket(type=socket.SOCK_DGRAM) as right:
        for sock in (left, right):
            sock.bind((LOCALHOST, 0))
            sock.setblocking(False)
        left.connect(right.getsockname())
        await loop.sock_sendall(left, b"")
        assert await loop.sock_recvfrom(right, 10) == (b"", left.getsockname())
