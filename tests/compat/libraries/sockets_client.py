"""What every websocket server of these tests is asked, with the blocking client of `websockets`."""

import os
from typing import Any

import pytest

from .needs import library
from .processes import TIMEOUT_SECONDS

ConnectionClosed = library("websockets").ConnectionClosed
connect = library("websockets.sync.client").connect

LARGE_BYTES = 900_000


def open_websocket(port: int, path: str = "/") -> Any:
    return connect(f"ws://127.0.0.1:{port}{path}", open_timeout=TIMEOUT_SECONDS, max_size=None)


def check_echo(port: int, path: str = "/") -> None:
    """Text and bytes of all sizes, one after the other and many at once; a ping; the server closes."""
    with open_websocket(port, path) as client:
        for size_bytes in (0, 1, 125, 126, 65_535, 65_536, LARGE_BYTES):
            message = os.urandom(size_bytes)
            client.send(message)
            assert client.recv(TIMEOUT_SECONDS) == message
        numbers = [str(number) for number in range(500)]
        for number in numbers:
            client.send(number)
        assert [client.recv(TIMEOUT_SECONDS) for _ in numbers] == numbers
        assert client.ping().wait(TIMEOUT_SECONDS)
        client.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(TIMEOUT_SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4000
