"""What ends before its datagram endpoints do: loops, threads' turns, forked children."""

import asyncio
import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import uringloop
from tests.children import script
from tests.kernel import needs
from tests.variants import BOTH_SLEEPS, FACTORIES, RINGS, LoopFactory

from .datagrams import Echo, Recorder, a_tick, bound_socket, name_of
from .helpers import LOCALHOST

on_every_ring = pytest.mark.parametrize("factory", [FACTORIES[name] for name in RINGS], ids=RINGS)


async def open_endpoint(protocol: Recorder | None = None) -> Recorder:
    protocol = protocol or Recorder()
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: protocol, local_addr=(LOCALHOST, 0))
    return protocol


def drop(*protocols: Recorder) -> None:
    """Let go of transports whose loop was closed under them, which warn."""
    for protocol in protocols:
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            protocol.transport.__del__()


@on_every_ring
def test_a_loop_may_be_closed_under_endpoints(factory: LoopFactory, folder: Path) -> None:
    loop = factory()
    server = loop.run_until_complete(open_endpoint())

    async def send_into_full_socket() -> Recorder:
        sock = bound_socket(socket.AF_UNIX, folder, "own")
        sock.connect(peer.getsockname())
        client = Recorder()
        await loop.create_datagram_endpoint(lambda: client, sock=sock)
        for _ in range(1000):
            client.transport.sendto(b"x")
        assert client.transport.get_write_buffer_size()
        server.transport.sendto(b"unread", name_of(server))
        return client

    with bound_socket(socket.AF_UNIX, folder) as peer:
        client = loop.run_until_complete(send_into_full_socket())
        loop.close()
    client.transport.sendto(b"ignored")
    drop(server, client)


class Interrupting(Recorder):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        if data == b"interrupt":
            raise KeyboardInterrupt


@on_every_ring
def test_an_interrupt_in_a_callback_loses_no_datagram(factory: LoopFactory) -> None:
    server, client = Interrupting(), Recorder()
    expected = [b"1", b"interrupt", b"2", b"3"]

    async def exchange() -> None:
        await open_endpoint(server)
        await open_endpoint(client)
        for data in expected:
            client.transport.sendto(data, name_of(server))
        await server.until_datagrams(4)
        for protocol in (server, client):
            protocol.transport.close()
            await protocol.until_called("connection_lost")
        await a_tick()

    with contextlib.closing(factory()) as loop:
        task = loop.create_task(exchange())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        loop.run_until_complete(task)
    assert server.contents == expected


class Pausing(Interrupting):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        if data == b"pause":
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)


@on_every_ring
def test_interrupts_lose_no_datagram_that_was_kept(factory: LoopFactory) -> None:
    server = Pausing()
    sent = [b"pause", b"interrupt", b"interrupt", b"1", b"interrupt"]

    async def end() -> None:
        client.sendto(b"end", name_of(server))
        await server.until_datagrams(len(sent) + 1)
        server.transport.close()
        await server.until_called("connection_lost")

    with contextlib.closing(factory()) as loop, bound_socket(socket.AF_INET, Path()) as client:
        loop.run_until_complete(open_endpoint(server))
        for data in sent:
            client.sendto(data, name_of(server))
        for _ in range(sent.count(b"interrupt")):
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(asyncio.sleep(5))
        loop.run_until_complete(asyncio.wait_for(end(), 5))
    assert server.contents == [*sent, b"end"]


@pytest.mark.parametrize("is_interrupted", [False, True])
@on_every_ring
def test_no_datagram_waits_for_the_next_run(factory: LoopFactory, is_interrupted: bool) -> None:
    many = [b"%d" % number for number in range(20)]

    def send() -> None:
        for data in many:
            client.transport.sendto(data, peer.getsockname())

    def interrupt() -> None:
        send()
        raise KeyboardInterrupt

    async def end() -> None:
        client.transport.close()
        await client.until_called("connection_lost")

    with contextlib.closing(factory()) as loop, bound_socket(socket.AF_INET, Path()) as peer:
        client = loop.run_until_complete(open_endpoint())
        loop.call_soon(interrupt if is_interrupted else send)
        with pytest.raises(KeyboardInterrupt) if is_interrupted else contextlib.nullcontext():
            loop.run_until_complete(a_tick())
        assert [peer.recv(100) for _ in many] == many
        send()
        assert [peer.recv(100) for _ in many] == many
        loop.run_until_complete(end())


class Resuming(Recorder):
    """Has its neighbours pause and go on whenever it receives."""

    def __init__(self, neighbours: list[Recorder]) -> None:
        super().__init__()
        self.neighbours = neighbours

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        for neighbour in self.neighbours:
            neighbour.transport.pause_reading()
            neighbour.transport.resume_reading()


@pytest.mark.parametrize("sleep", BOTH_SLEEPS)
def test_a_receive_waits_until_the_datagram_before_was_taken(sleep: Any) -> None:
    async def exchange() -> None:
        receivers: list[Recorder] = []
        for _ in range(10):
            receivers.append(await open_endpoint(Resuming(receivers)))
        sender = await open_endpoint()
        for count in range(1, 21):
            for receiver in receivers:
                for part in (b"a", b"b"):
                    sender.transport.sendto(part * count, name_of(receiver))
            for receiver in receivers:
                await receiver.until_datagrams(2 * count)
        expected = [part * count for count in range(1, 21) for part in (b"a", b"b")]
        assert all(receiver.contents == expected for receiver in receivers)
        for protocol in (sender, *receivers):
            protocol.transport.close()
            await protocol.until_called("connection_lost")
        await a_tick()

    # Without buffer groups each socket has one buffer, and a full queue is submitted on the spot.
    without = ("multishot_receive", "buffer_rings")
    with contextlib.closing(uringloop.EventLoop(sleep=sleep, without=without, sq_entries=4)) as loop:
        loop.run_until_complete(exchange())


@pytest.mark.parametrize("sleep", BOTH_SLEEPS)
@needs("io_uring")
def test_a_loop_with_an_endpoint_stays_in_its_thread(sleep: Any) -> None:
    async def close(protocol: Recorder) -> None:
        protocol.transport.close()
        await protocol.until_called("connection_lost")
        await a_tick()

    async def exchange() -> None:
        server, client = await open_endpoint(Echo()), await open_endpoint()
        client.transport.sendto(b"x", name_of(server))
        await client.until_datagrams(1)
        await close(server)
        await close(client)

    def elsewhere() -> list[str]:
        said: list[str] = []

        def run() -> None:
            try:
                loop.run_until_complete(turn)
            except RuntimeError as error:
                said.append(str(error))

        turn = exchange()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        turn.close()
        return said

    with contextlib.closing(uringloop.EventLoop(sleep=sleep)) as loop:
        protocol = loop.run_until_complete(open_endpoint())
        (refusal,) = elsewhere()
        assert "in another thread" in refusal
        loop.run_until_complete(close(protocol))
        assert elsewhere() == []


def test_a_fork_leaves_the_endpoint_to_the_parent() -> None:
    printed = script("""
        import asyncio, os, uringloop

        class Recorder(asyncio.DatagramProtocol):
            def __init__(self):
                self.received = asyncio.Queue()
            def datagram_received(self, data, addr):
                self.received.put_nowait(data)

        async def main():
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
            own = transport.get_extra_info("sockname")
            for number in range(3):
                transport.sendto(b"before", own)
                child = os.fork()
                if child == 0:
                    transport.close() if number else transport.abort()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                transport.sendto(b"after", own)
                print(await protocol.received.get(), await protocol.received.get())
            transport.close()

        uringloop.run(main())
    """)
    assert printed == "b'before' b'after'\n" * 3
