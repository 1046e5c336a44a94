"""A server that drops, changes or adds something is disqualified, and told why; so is one that is not there."""

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.runner import Disqualified, Load, Server, Servers
from tests.kernel import needs

#: The generator of load is a program on io_uring.
pytestmark = needs("io_uring")

Answer = Callable[[bytes], bytes]


class OneServer(Servers):
    """A thread of this process stands for every contender."""

    def __init__(self, port: int) -> None:
        super().__init__("")
        self.port = port

    def __getitem__(self, contender: str) -> Server:
        return Server(os.getpid(), str(self.port), io.StringIO())


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[OneServer]:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            while data := connection.recv(1 << 16):
                connection.sendall(answer(data))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield OneServer(listener.getsockname()[1])
        finally:
            thread.join()


def drive(answer: Answer) -> dict[str, float]:
    with answering(answer) as servers, servers:
        return Load("load", servers, 0.05, c=1, s=64)("any")


def test_right_answers_count() -> None:
    figures = drive(lambda data: data)
    assert figures["value"] > 0
    assert figures["p99_us"] >= figures["p50_us"] > 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "content differs"),
        (lambda data: data + data, "more came back than was sent"),
        (lambda data: data[1:], "content differs"),
        (lambda data: b"", "answer missing"),
    ],
)
def test_wrong_answers_disqualify(answer: Answer, reason: str) -> None:
    with pytest.raises(Disqualified, match=reason):
        drive(answer)


def test_a_server_that_does_not_start_is_disqualified_with_its_last_words() -> None:
    with Servers("nonsense") as servers, pytest.raises(Disqualified, match=r"did not start: .*nonsense"):
        servers["asyncio"]
