"""Streams on epoll: what they do in other ways than on io_uring, with the same effect."""

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.loop.helpers import Recorder, pattern, serving
from tests.loop.test_leaving import MANY, Pair, in_one_tick, many_connections, tcp_pair, transport_over, unix_pair

pytestmark = pytest.mark.asyncio(loop_factories=["epoll", "epoll-tiny"])


def watched(loop: Any) -> set[int]:
    """Return the descriptors in the ring's epoll set."""
    text = Path(f"/proc/self/fdinfo/{loop._ring.fd}").read_text()
    return {int(fd) for fd in re.findall(r"^tfd: +(\d+)", text, re.MULTILINE)}


async def test_writes_need_no_sqe() -> None:
    """Each send is a system call in any case, and a send(2) costs less without an SQE and a CQE."""
    loop: Any = asyncio.get_running_loop()
    async with many_connections() as (transports, peers):
        await asyncio.sleep(0)
        before = loop.statistics()
        await in_one_tick(*(lambda each=each: each.write(b"next") for each in transports))  # type: ignore[misc]
        after = loop.statistics()
        for peer in peers:
            assert peer.recv(10, socket.MSG_WAITALL) == b"first next"
        assert after["submitted"] == before["submitted"]
        assert after["bytes_sent"] == before["bytes_sent"] + 4 * MANY


async def test_a_close_sends_and_cancels_without_sqes() -> None:
    loop: Any = asyncio.get_running_loop()
    async with many_connections(2) as (transports, peers):
        await asyncio.sleep(0)
        before = loop.statistics()
        transports[0].write(b"last")
        transports[0].close()
        while transports[0]._endpoint.fd >= 0:
            await asyncio.sleep(0)
        assert loop.statistics()["submitted"] == before["submitted"]
        assert peers[0].recv(20, socket.MSG_WAITALL) == b"first last"


async def test_a_pause_leaves_later_bytes_in_the_socket_at_once() -> None:
    loop: Any = asyncio.get_running_loop()
    protocol = Recorder()
    ours, peer = socket.socketpair()
    with peer, ours.dup() as copy:
        copy.setblocking(False)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        await asyncio.sleep(0)
        before = loop.statistics()
        transport.pause_reading()
        peer.send(b"later")
        assert copy.recv(10) == b"later"
        await asyncio.sleep(0)
        assert loop.statistics()["submitted"] == before["submitted"]
        transport.resume_reading()
        peer.send(b"again")
        while not protocol.received:
            await asyncio.sleep(0)
        assert bytes(protocol.received) == b"again"
        transport.abort()
        await protocol.until_called("connection_lost")


@pytest.mark.parametrize("forks", [False, True])
async def test_a_closed_connection_leaves_the_set(forks: bool) -> None:
    """Also where a forked child still holds it: its events would have no end."""
    loop: Any = asyncio.get_running_loop()
    protocol = Recorder()
    async with serving(lambda: protocol) as address:
        with socket.create_connection(address) as peer:
            peer.send(b"first")
            while not protocol.received:
                await asyncio.sleep(0)
            fd = protocol.transport._endpoint.fd
            assert fd in watched(loop)
            child = os.fork() if forks else 0
            if forks and child == 0:
                signal.pause()
            try:
                protocol.transport.close()
                assert fd in watched(loop)  # it goes with its file, without a call of its own
                await protocol.until_called("connection_lost")
                assert fd not in watched(loop)
            finally:
                if forks:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)  # noqa: ASYNC222  # it is dead


def tells_of_news_alone(fd: int) -> bool:
    """Return whether the ring's epoll set has a descriptor with EPOLLET."""
    loop: Any = asyncio.get_running_loop()
    text = Path(f"/proc/self/fdinfo/{loop._ring.fd}").read_text()
    found = re.search(rf"^tfd: +{fd} events: +(\w+)", text, re.MULTILINE)
    assert found
    return int(found[1], 16) & select.EPOLLET != 0


@contextlib.asynccontextmanager
async def accepted() -> AsyncIterator[tuple[Any, Recorder, socket.socket]]:
    """Accept a TCP connection; give its transport, its protocol, and the blocking socket of its peer."""
    protocol = Recorder()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.send(b"0")
        await protocol.until_received(1)
        yield protocol.transport, protocol, peer
        protocol.transport.abort()
        await protocol.until_called("connection_lost")
    server.close()
    await server.wait_closed()


async def test_a_tcp_socket_that_no_other_code_has_tells_of_news_alone() -> None:
    async with accepted() as (transport, protocol, peer):
        peer.send(b"1")
        await protocol.until_received(2)
        assert tells_of_news_alone(transport._endpoint.fd)
        transport.get_extra_info("socket")
        peer.send(b"2")
        await protocol.until_received(3)
        assert not tells_of_news_alone(transport._endpoint.fd)


async def test_bytes_behind_an_urgent_byte_that_other_code_took_come() -> None:
    """A receive stops at its place, and no event tells of that."""
    async with accepted() as (transport, protocol, peer):
        fd = transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(fd)) as copy:
            peer.send(b"abc")
            peer.send(b"!", socket.MSG_OOB)
            peer.send(b"def")
            select.select([], [], [copy])
            assert copy.recv(1, socket.MSG_OOB) == b"!"
            await protocol.until_received(7)
            assert bytes(protocol.received) == b"0abcdef"


@contextlib.asynccontextmanager
async def given(pair: Pair) -> AsyncIterator[tuple[Any, Recorder, socket.socket]]:
    """Open a transport over one socket of a pair; give it, its protocol, and the other socket."""
    protocol = Recorder()
    with pair() as (ours, peer):
        transport = await transport_over(ours, protocol)
        yield transport, protocol, peer
        transport.abort()
        await protocol.until_called("connection_lost")


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
async def test_a_given_socket_tells_of_all_there_is(pair: Pair) -> None:
    """A short receive may have left something."""
    async with given(pair) as (transport, protocol, peer):
        for count in range(1, 4):
            peer.send(b"some")
            await protocol.until_received(4 * count)
        assert not tells_of_news_alone(transport._endpoint.fd)


@pytest.mark.parametrize("open_tcp", [accepted, lambda: given(tcp_pair)], ids=["accepted", "given"])
async def test_bytes_behind_an_urgent_byte_come(open_tcp: Any) -> None:
    """A receive stops before it."""
    async with open_tcp() as (_, protocol, peer):
        peer.send(b"before")
        peer.send(b"!", socket.MSG_OOB)
        peer.send(b"behind")
        await protocol.until_received(len(protocol.received) + 12)
        assert bytes(protocol.received).endswith(b"beforebehind")


async def test_bytes_behind_those_with_descriptors_come() -> None:
    async with given(unix_pair) as (_, protocol, peer):
        socket.send_fds(peer, [b"before"], [peer.fileno()])
        peer.send(b"behind")
        await protocol.until_received(12)
        assert bytes(protocol.received) == b"beforebehind"


@pytest.mark.parametrize("open_tcp", [accepted, lambda: given(tcp_pair)], ids=["accepted", "given"])
@pytest.mark.parametrize("size_bytes", [100, 100_000])
async def test_an_end_behind_the_bytes_comes(open_tcp: Any, size_bytes: int) -> None:
    async with open_tcp() as (_, protocol, peer):
        await asyncio.sleep(0)
        before = bytes(protocol.received)
        peer.sendall(pattern(size_bytes))
        peer.shutdown(socket.SHUT_WR)
        await protocol.until_called("connection_lost")
        assert bytes(protocol.received) == before + pattern(size_bytes)
