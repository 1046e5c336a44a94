"""What goes wrong with datagrams: bad arguments, refusals, callbacks that raise.  Errors and messages are asyncio's."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.variants import EVERY

from .datagrams import Echo, Recorder, a_tick, bound_socket, endpoint, name_of, on
from .helpers import LOCALHOST

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
async def test_only_bytes_are_sent(data: Any) -> None:
    async with endpoint() as client:
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not"):
            client.transport.sendto(data, (LOCALHOST, 1))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, TypeError),
        ("text", TypeError),
        ((LOCALHOST,), TypeError),
        ((LOCALHOST, "1"), TypeError),
        ((LOCALHOST, 65536), OverflowError),
        ((LOCALHOST, -1), OverflowError),
        ((LOCALHOST, 1, 2), TypeError),
        ((5, 1), TypeError),
    ],
)
async def test_an_address_that_is_none_closes_the_endpoint(
    address: Any, expected: type[Exception], unexpected: list[dict[str, Any]]
) -> None:
    async with endpoint() as client:
        client.transport.sendto(b"x", address)
        assert client.transport.is_closing()
        await client.until_called("connection_lost")
        assert isinstance(client.lost_with, expected)
        (context,) = unexpected
        unexpected.clear()
        assert context["message"] == "Fatal write error on datagram transport"
        assert context["exception"] is client.lost_with
        assert context["transport"] is client.transport


async def test_a_flow_label_too_large_closes_the_endpoint(unexpected: list[dict[str, Any]]) -> None:
    async with endpoint(local_addr=("::1", 0)) as client:
        client.transport.sendto(b"x", ("::1", 1, 1 << 20, 0))
        await client.until_called("connection_lost")
        assert isinstance(client.lost_with, OverflowError)
        unexpected.clear()


async def test_memory_in_pieces_closes_the_endpoint(unexpected: list[dict[str, Any]]) -> None:
    async with endpoint() as client:
        client.transport.sendto(memoryview(b"abcd")[::2], (LOCALHOST, 1))
        await client.until_called("connection_lost")
        assert isinstance(client.lost_with, BufferError)
        unexpected.clear()


async def test_a_name_that_does_not_resolve_is_told() -> None:
    async with endpoint() as client:
        client.transport.sendto(b"x", ("::1", 1))
        assert isinstance(client.errors[0], socket.gaierror)
        assert not client.transport.is_closing()


async def test_a_refusal_is_told_and_everything_goes_on(folder: Path) -> None:
    with bound_socket(socket.AF_INET, folder) as closed:
        address = closed.getsockname()
    async with endpoint(remote_addr=address) as client:
        for count in (1, 2):
            client.transport.sendto(b"x")
            await client.until_errors(count)
            assert isinstance(client.errors[-1], ConnectionRefusedError)
        async with endpoint(Echo(), local_addr=address):
            client.transport.sendto(b"heard")
            await client.until_datagrams(1)
        assert client.contents == [b"heard"]
        assert len(client.errors) == 2


async def test_a_refusal_is_told_by_the_next_sendto_if_that_comes_first(folder: Path) -> None:
    with bound_socket(socket.AF_INET, folder) as closed:
        address = closed.getsockname()
    async with endpoint(remote_addr=address) as client:
        client.transport.sendto(b"x")
        client.transport.sendto(b"x")
        # Where completions interrupt, the receive hears of it between the two.
        await client.until_errors(1)
        assert isinstance(client.errors[0], ConnectionRefusedError)


async def test_a_unix_address_without_a_socket_is_told(folder: Path) -> None:
    with bound_socket(socket.AF_UNIX, folder, "stale"):
        pass
    expected = [("missing", FileNotFoundError), ("stale", ConnectionRefusedError), ("x" * 200, OSError)]
    async with endpoint(**on(socket.AF_UNIX, folder)) as client:
        for name, error in expected:
            client.transport.sendto(b"x", str(folder / name))
            assert isinstance(client.errors.pop(), error)
        assert not client.transport.is_closing()


@pytest.mark.parametrize("failing", ["datagram_received", "error_received"])
async def test_an_exception_in_a_callback_closes_nothing(failing: str, unexpected: list[dict[str, Any]]) -> None:
    class Failing(Recorder):
        def _called(self, name: str) -> None:
            super()._called(name)
            if name == failing:
                raise RuntimeError(name)

    async with endpoint() as server, endpoint(Failing(), remote_addr=name_of(server)) as client:
        for count in (1, 2):
            server.transport.sendto(b"x", name_of(client))
            await client.until_datagrams(count)
        remote = name_of(server)
        server.transport.close()
        await server.until_called("connection_lost")
        await a_tick()
        client.transport.sendto(b"x", remote)
        await client.until_errors(1)
        await a_tick()
        assert not client.transport.is_closing()
        assert [str(context["exception"]) for context in unexpected] == [failing] * (
            2 if failing == "datagram_received" else 1
        )
        unexpected.clear()
