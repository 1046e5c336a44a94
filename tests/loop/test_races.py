"""Races between what the kernel reports and what the program does in the same tick, each forced and not waited for.

Every one of these once lost bytes, a wakeup or somebody else's descriptor.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import gc
import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

import uringloop
from tests.variants import EVERY, FACTORIES, RINGS, LoopFactory
from uringloop.operations import Accept
from uringloop.ring import Opcode

from .helpers import Recorder

every_loop = pytest.mark.asyncio(loop_factories=EVERY)
every_ring = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in RINGS])
each_loop = pytest.mark.parametrize("factory", [pytest.param(FACTORIES[name], id=name) for name in EVERY])


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


@every_loop
async def test_resuming_before_the_bytes_are_dispatched_overwrites_none(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Without multishot the receive has one buffer: it is armed again only when that was read."""
    ours, peer = pair
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
    transport.pause_reading()
    peer.send(b"first")

    def resume() -> None:
        transport.resume_reading()
        peer.send(b"second")
        if isinstance(loop, uringloop.EventLoop):
            # As connecting, closing a server or a full queue do.
            loop._dispatcher.submit()

    loop.call_soon(resume)
    await protocol.until_received(11)
    assert protocol.received == b"firstsecond"
    transport.close()
    await protocol.until_called("connection_lost")


@every_loop
async def test_bytes_kept_from_a_cancelled_receive_go_to_the_transport(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, peer = pair
    loop = asyncio.get_running_loop()
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
    await asyncio.sleep(0.01)
    peer.send(b"hello")
    loop.call_soon(receiving.cancel)
    await asyncio.wait([receiving])
    reader, writer = await asyncio.open_connection(sock=ours)
    peer.send(b" world")
    peer.shutdown(socket.SHUT_WR)
    assert await reader.read() == b"hello world"
    writer.close()
    await writer.wait_closed()


@every_ring
def test_a_result_disposed_of_at_close_is_not_disposed_of_again(factory: LoopFactory) -> None:
    """The accepted descriptor's number belongs to another file by then."""
    loop = factory()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()):
            task: Any = loop.create_task(loop.submit(Accept(listener.fileno())))
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()
            others = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
            task._log_destroy_pending = False
            del task
            gc.collect()
            for other in others:
                os.close(other)


@each_loop
def test_a_server_may_be_closed_after_its_loop(factory: LoopFactory) -> None:
    loop = factory()
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    loop.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@each_loop
def test_a_callback_whose_context_is_entered_already_does_not_end_the_loop(factory: LoopFactory) -> None:
    loop = factory()
    ran: list[str] = []
    context = contextvars.copy_context()
    loop.call_soon(ran.append, "in a context that is taken", context=context)
    loop.call_soon(ran.append, "after it")
    loop.call_soon(loop.stop)
    context.run(loop.run_forever)
    loop.close()
    assert ran == ["after it"]


@each_loop
def test_a_listening_socket_closed_before_its_server_accepts_no_more(factory: LoopFactory) -> None:
    loop = factory()
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()

    async def serve() -> None:
        server = await loop.create_server(asyncio.Protocol, sock=listener)
        listener.close()
        # asyncio's selector minds, in some versions.
        with contextlib.suppress(ValueError):
            server.close()

    loop.run_until_complete(serve())
    loop.run_until_complete(asyncio.sleep(0))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    loop.close()


@every_ring
@pytest.mark.parametrize("alive", [True, False], ids=["alive", "ended"])
def test_a_server_closed_between_the_runs_of_two_threads(factory: LoopFactory, alive: bool) -> None:
    loop = factory()
    served: list[Any] = []
    ready, leave = threading.Event(), threading.Event()

    def run() -> None:
        served.append(loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0)))
        loop.run_until_complete(asyncio.sleep(0))
        ready.set()
        if alive:
            leave.wait()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    if not alive:
        thread.join()
    served[0].close()
    loop.run_until_complete(asyncio.sleep(0))
    leave.set()
    thread.join()
    loop.close()


@every_ring
def test_an_interrupt_during_the_dispatch_loses_no_completion(
    factory: LoopFactory, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The signal comes after one completion was handed out and before the next is."""
    ours, peer = pair
    loop: Any = factory()

    class Interrupting:
        complete = staticmethod(partial(ctypes.CDLL(None)["raise"], 2))

    async def receive() -> bytes:
        task = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await asyncio.sleep(0.01)
        loop._dispatcher.stage(Interrupting(), Opcode.NOP, -1)
        peer.send(b"hello")
        data: bytes = await task
        return data

    receiving = loop.create_task(receive())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(receiving)
    assert loop.run_until_complete(receiving) == b"hello"
    loop.close()
