"""Datagram endpoints: IPv4, IPv6 and unix, connected and not.  Datagrams arrive once, whole, and with their address."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import open_descriptors
from tests.variants import EVERY, RINGS, TINY

from .datagrams import Echo, Recorder, a_tick, bound_socket, endpoint, name_of, on
from .helpers import LOCALHOST, pattern

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

rings_only = pytest.mark.asyncio(loop_factories=RINGS)
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX], ids=lambda f: f.name)
_EMPTY_IS_SENT = sys.version_info >= (3, 13)


# Back and forth


@FAMILIES
async def test_an_answer_goes_to_whoever_asked(family: int, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    async with endpoint(Echo(), **on(family, folder)) as server:
        with bound_socket(family, folder, "a") as left, bound_socket(family, folder, "b") as right:
            for peer, data in ((left, b"from left"), (right, b"from right"), (left, b"again")):
                peer.sendto(data, name_of(server))
                answer, sender = await loop.run_in_executor(None, receive, peer)
                assert (answer, sender) == (data, name_of(server))
            names = left.getsockname(), right.getsockname()
        assert server.datagrams == [(b"from left", names[0]), (b"from right", names[1]), (b"again", names[0])]


def receive(sock: socket.socket) -> tuple[bytes, Any]:
    sock.settimeout(10)
    return sock.recvfrom(1 << 18)


@FAMILIES
async def test_a_connected_endpoint_sends_without_an_address(family: int, folder: Path) -> None:
    async with endpoint(Echo(), **on(family, folder)) as server:
        sock = bound_socket(family, folder, "client")
        sock.connect(name_of(server))
        async with endpoint(sock=sock) as client:
            assert client.transport.get_extra_info("peername") == name_of(server)
            client.transport.sendto(b"one")
            client.transport.sendto(bytearray(b"two"), None)
            client.transport.sendto(memoryview(b"three"), name_of(server))
            await client.until_datagrams(3)
            assert client.datagrams == [(data, name_of(server)) for data in (b"one", b"two", b"three")]


@pytest.mark.parametrize("host", [LOCALHOST, "::1"])
async def test_an_endpoint_for_one_address_sends_to_no_other(host: str) -> None:
    async with endpoint(Echo(), local_addr=(host, 0)) as server:
        remote = name_of(server)
        async with endpoint(remote_addr=remote[:2]) as client:
            for address in (None, remote):
                client.transport.sendto(b"x", address)
            with pytest.raises(ValueError, match="Invalid address: must be None or"):
                client.transport.sendto(b"x", (host, 1))
            await client.until_datagrams(2)
            assert client.errors == []


async def test_many_datagrams_of_one_tick_arrive_in_order() -> None:
    async with endpoint() as server, endpoint() as client:
        expected = [pattern(size, size) for size in range(1, 201)]
        for data in expected:
            client.transport.sendto(data, name_of(server))
        await server.until_datagrams(200)
        assert server.datagrams == [(data, name_of(client)) for data in expected]


async def test_each_of_many_senders_has_its_own_address() -> None:
    with contextlib.ExitStack() as stack:
        async with endpoint(Echo()) as server:
            senders = [stack.enter_context(bound_socket(socket.AF_INET, Path())) for _ in range(400)]
            for start in range(0, 800, 100):
                for sender in (senders * 2)[start : start + 100]:
                    sender.sendto(str(sender.getsockname()).encode(), name_of(server))
                await server.until_datagrams(start + 100)
            assert all(data == str(address).encode() for data, address in server.datagrams)
        for sender in senders:
            assert [sender.recv(100) for _ in range(2)] == [str(sender.getsockname()).encode()] * 2


@pytest.mark.parametrize("host", ["localhost", "", "127.1"])
async def test_a_host_may_be_a_name(host: str) -> None:
    async with endpoint() as server, endpoint() as client:
        client.transport.sendto(b"x", (host, name_of(server)[1]))
        await server.until_datagrams(1)
        assert server.datagrams == [(b"x", name_of(client))]


async def test_ipv6_addresses_have_two_to_four_parts() -> None:
    options: dict[str, Any] = {"local_addr": ("::1", 0)}
    async with endpoint(**options) as server, endpoint(**options) as client:
        host, port, flow, scope = name_of(server)
        for address in ((host, port), (host, port, 5), (host, port, flow, scope)):
            client.transport.sendto(b"x", address)
        await server.until_datagrams(3)
        assert server.datagrams == [(b"x", name_of(client))] * 3


# Sizes


@pytest.mark.parametrize(
    ("family", "size_bytes"),
    [(socket.AF_INET, 65507), (socket.AF_INET6, 65527), (socket.AF_UNIX, 65536), (socket.AF_UNIX, 200_000)],
)
async def test_the_largest_datagrams_arrive_whole(family: int, size_bytes: int, folder: Path) -> None:
    async with endpoint(Echo(), **on(family, folder)) as server, endpoint(**on(family, folder, "b")) as client:
        for start in range(3):
            client.transport.sendto(pattern(size_bytes, start), name_of(server))
            await client.until_datagrams(start + 1)
        assert client.contents == [pattern(size_bytes, start) for start in range(3)]


async def test_a_datagram_too_large_is_refused_and_the_next_is_sent() -> None:
    async with endpoint() as server, endpoint() as client:
        client.transport.sendto(bytes(65508), name_of(server))
        client.transport.sendto(b"small", name_of(server))
        await server.until_datagrams(1)
        assert server.contents == [b"small"]
        assert [error.errno for error in client.errors] == [errno.EMSGSIZE]  # type: ignore[attr-defined]


@rings_only
async def test_a_datagram_cut_off_is_an_error_and_no_datagram(folder: Path) -> None:
    async with endpoint(**on(socket.AF_UNIX, folder)) as server:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 212_992)
            for data in (b"before", bytes(300_000), b"after"):
                sender.sendto(data, name_of(server))
        await server.until_datagrams(2)
        assert server.contents == [b"before", b"after"]
        assert [error.errno for error in server.errors] == [errno.EMSGSIZE]  # type: ignore[attr-defined]


@FAMILIES
async def test_empty_datagrams_are_datagrams(family: int, folder: Path) -> None:
    expected = [b"", b"x", b"", b"", b"y", b""]
    async with endpoint(**on(family, folder)) as server:
        with bound_socket(family, folder) as peer:
            for data in expected:
                peer.sendto(data, name_of(server))
            await server.until_datagrams(6)
            assert server.datagrams == [(data, peer.getsockname()) for data in expected]


async def test_empty_datagrams_are_sent_where_asyncio_sends_them() -> None:
    async with endpoint() as server, endpoint() as client:
        for data in (b"", b"end"):
            client.transport.sendto(data, name_of(server))
        await server.until(lambda: b"end" in server.contents)
        assert server.contents == ([b"", b"end"] if _EMPTY_IS_SENT else [b"end"])


@pytest.mark.asyncio(loop_factories=TINY)
async def test_nothing_is_lost_when_buffers_run_out() -> None:
    async with endpoint(Echo()) as server, endpoint() as client:
        expected = [pattern(1000, start) for start in range(60)]
        for data in expected:
            client.transport.sendto(data, name_of(server))
        await client.until_datagrams(60)
        assert client.contents == expected
        assert asyncio.get_running_loop().statistics()["no_buffers"] > 0  # type: ignore[attr-defined]


# Options


async def test_broadcast_must_be_allowed() -> None:
    everyone = "127.255.255.255"
    async with endpoint(local_addr=("0.0.0.0", 0)) as server:
        address = everyone, name_of(server)[1]
        async with endpoint() as client:
            client.transport.sendto(b"x", address)
            assert isinstance(client.errors[0], PermissionError)
        async with endpoint(remote_addr=address, allow_broadcast=True) as client:
            assert client.transport.get_extra_info("peername") is None
            client.transport.sendto(b"unasked")
            with pytest.raises(ValueError, match="Invalid address"):
                client.transport.sendto(b"x", (LOCALHOST, 1))
            await server.until_datagrams(1)
        assert server.contents == [b"unasked"]


async def test_a_port_may_be_shared() -> None:
    async with (
        endpoint(local_addr=(LOCALHOST, 0), reuse_port=True) as first,
        endpoint(local_addr=name_of(first), reuse_port=True) as second,
    ):
        assert name_of(first) == name_of(second)
        with pytest.raises(OSError, match="in use"):
            async with endpoint(local_addr=name_of(first)):
                pass


async def test_a_unix_sender_may_have_no_name_or_an_abstract_one(folder: Path) -> None:
    async with endpoint(**on(socket.AF_UNIX, folder)) as server:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            nameless.sendto(b"x", name_of(server))
        async with endpoint(family=socket.AF_UNIX, local_addr=f"\0{folder}") as client:
            client.transport.sendto(b"y", name_of(server))
            await server.until_datagrams(2)
            server.transport.sendto(b"z", server.datagrams[1][1])
            await client.until_datagrams(1)
        assert server.datagrams == [(b"x", None), (b"y", f"\0{folder}".encode())]
        assert client.datagrams == [(b"z", str(folder / "own"))]


@rings_only
async def test_the_ends_of_a_socket_pair_need_no_address() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    async with endpoint(sock=left) as client, endpoint(sock=right) as server:
        client.transport.sendto(b"x")
        await server.until_datagrams(1)
        assert server.contents == [b"x"]


# What a transport tells


async def test_a_transport_tells_of_itself() -> None:
    async with endpoint() as client:
        transport = client.transport
        assert isinstance(transport, asyncio.DatagramTransport) or sys.version_info < (3, 12)
        assert transport.get_protocol() is client
        assert transport.get_extra_info("socket").type == socket.SOCK_DGRAM
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("absent", 5) == 5
        assert transport.get_write_buffer_size() == 0
        assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        assert transport.is_reading()
        await a_tick()
        fd = transport.get_extra_info("socket").fileno()
        assert repr(transport).endswith(f"DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>")
        transport.close()
        assert f"DatagramTransport closing fd={fd}" in repr(transport)
        assert transport.is_closing()
        assert not transport.is_reading()


async def test_another_protocol_may_take_over() -> None:
    async with endpoint() as first, endpoint() as client:
        second = Recorder()
        first.transport.set_protocol(second)
        assert first.transport.get_protocol() is second
        client.transport.sendto(b"x", name_of(first))
        await second.until_datagrams(1)
        assert first.datagrams == []
        first.transport.set_protocol(first)


async def test_callbacks_run_in_the_context_of_creation(folder: Path) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="elsewhere")
    seen: list[tuple[str, str]] = []

    class Seeing(Recorder):
        def _called(self, name: str) -> None:
            seen.append((name, variable.get()))
            super()._called(name)

    with bound_socket(socket.AF_INET, folder) as closed:
        address = closed.getsockname()
    client = Seeing()
    variable.set("creation")
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: client, remote_addr=address)
    variable.set("later")
    client.transport.sendto(b"x")
    await client.until_errors(1)
    async with endpoint(Echo(), local_addr=address):
        client.transport.sendto(b"x")
        await client.until_datagrams(1)
    client.transport.pause_reading()
    client.transport.resume_reading()
    client.transport.close()
    await client.until_called("connection_lost")
    assert seen == [
        ("connection_made", "creation"),
        ("error_received", "creation"),
        ("datagram_received", "creation"),
        ("connection_lost", "later"),
    ]


async def test_an_unclosed_transport_warns() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Recorder, local_addr=(LOCALHOST, 0))
    with pytest.warns(ResourceWarning, match="unclosed transport <.*DatagramTransport"):
        transport.__del__()  # type: ignore[attr-defined]
    gc.collect()
    transport.abort()
    await a_tick()


# Closing


async def test_closing_tells_the_protocol_soon_but_not_at_once() -> None:
    async with endpoint() as server, endpoint() as client:
        client.transport.sendto(b"last", name_of(server))
        client.transport.close()
        client.transport.close()
        client.transport.abort()
        assert client.calls == ["connection_made"]
        await client.until_called("connection_lost")
        assert client.lost_with is None
        await server.until_datagrams(1)
        await a_tick()
        assert client.calls == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_nothing_is_delivered_after_closing_in_a_callback(method: str) -> None:
    class Closing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            getattr(self.transport, method)()

    async with endpoint(Closing()) as server, endpoint() as client:
        for _ in range(10):
            client.transport.sendto(b"x", name_of(server))
        await server.until_called("connection_lost")
        await a_tick()
        assert server.calls == ["connection_made", "datagram_received", "connection_lost"]


async def test_what_is_sent_after_closing_for_one_address_is_ignored_and_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with endpoint() as server, endpoint(remote_addr=name_of(server)) as client:
        client.transport.close()
        for _ in range(8):
            client.transport.sendto(b"x")
        await client.until_called("connection_lost")
        server.transport.sendto(b"end", name_of(server))
        await server.until_datagrams(1)
        assert server.contents == [b"end"]
    assert [record.message for record in caplog.records] == ["socket.send() raised exception."] * 4


@rings_only
async def test_sending_on_a_closed_endpoint_is_harmless() -> None:
    async with endpoint() as server, endpoint() as client:
        client.transport.close()
        await client.until_called("connection_lost")
        await a_tick()
        client.transport.sendto(b"x", name_of(server))
        client.transport.pause_reading()
        client.transport.resume_reading()
        client.transport.abort()
        assert client.transport.get_write_buffer_size() == 0


async def test_endpoints_come_and_go() -> None:
    descriptors = len(open_descriptors())
    async with endpoint(Echo()) as server:
        for number in range(200):
            async with endpoint() as client:
                client.transport.sendto(str(number).encode(), name_of(server))
                if number % 2:
                    await client.until_datagrams(1)
    await a_tick()
    await a_tick()
    assert len(open_descriptors()) <= descriptors + 1
