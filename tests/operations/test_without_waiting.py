"""Chains and multishot operations on a ring that no loop drives, and on a loop that closes."""

import asyncio
import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

import uringloop
from tests.kernel import needs
from tests.loop.helpers import listening_socket, socket_pair
from tests.operations.helpers import connect, pipe, running_loop
from uringloop.operations import Accept, Chain, ChainError, Nop, Operation, Ready, Receive, Timeout, Write
from uringloop.ring import Ring, SqeFlag

LONG_NS = 3600 * 10**9


def test_a_loop_that_closes_ends_its_chains() -> None:
    loop = uringloop.EventLoop()
    with pipe() as (reading, _):
        chain = (
            Chain()
            .add(Nop(), skip_success=True)
            .add(Ready(reading, select.POLLIN), skip_success=True)
            .add(Timeout(LONG_NS))
        )

        async def begin() -> None:
            chain.submit(running_loop()._dispatcher)

        loop.run_until_complete(begin())
        loop.close()
    assert chain.is_over


# On a ring by itself


@needs("results of NOP")
@pytest.mark.parametrize("failing", [None, 0, 1, 2])
@needs("io_uring")
def test_chains_on_a_bare_ring(failing: int | None) -> None:
    def parts(add: Callable[..., Any]) -> None:
        for number in range(3):
            add(Nop(-errno.EIO if number == failing else 1), skip_success=number == 0)

    with Ring() as ring:
        parts((chain := Chain()).add)
        if failing is None:
            assert ring.chain(chain) == [None, 1, 1]
        else:
            with pytest.raises(ChainError) as caught:
                ring.chain(chain)
            assert (caught.value.failed, caught.value.cancelled) == (failing, list(range(failing + 1, 3)))
        assert ring.in_flight == 0
        assert ring.statistics()["in_flight"] == 0


@needs("results of NOP")
@needs("io_uring")
def test_drain_waits_for_all_before() -> None:
    with Ring() as ring, pipe() as (reading, writing):
        waiting = ring.prepare(Ready(reading, select.POLLIN))
        chain = Chain().add(Write(writing, b"x")).add(Nop(2))
        drained = ring.prepare(_drained(Nop(1)))
        assert ring.submit() == 2
        assert ring.peek_cqe() is None
        assert os.write(writing, b"x") == 1
        order = [ring.wait_cqe().operation for _ in range(2)]
        assert order == [waiting, drained]
        assert ring.chain(chain) == [1, 2]
        assert ring.chain(Chain().add(Nop(3), drain=True).add(Nop(4))) == [3, 4]


def _drained(operation: Operation) -> Operation:
    operation.modifiers |= SqeFlag.IO_DRAIN
    return operation


def test_a_loop_that_closes_ends_iterators() -> None:
    loop = uringloop.EventLoop()
    with listening_socket() as listener:

        async def begin() -> object:
            accepted = running_loop().submit_multishot(Accept(listener.fileno()))
            with connect(listener):
                await asyncio.sleep(0.001)
            return accepted

        accepted = loop.run_until_complete(begin())
        loop.close()
        del accepted


# On a ring by itself


@needs("io_uring")
def test_connections_on_a_bare_ring(listener: socket.socket) -> None:
    with Ring() as ring:
        clients = [connect(listener) for _ in range(3)]
        for number, fd in enumerate(ring.iterate(Accept(listener.fileno()))):
            os.close(fd)
            if number == 1:
                break
        # The third, if it came already, was closed as the iteration was left.
        for client in clients:
            client.close()
        assert ring.in_flight == 0


@needs("multishot timeouts")
@needs("io_uring")
def test_timeouts_on_a_bare_ring() -> None:
    with Ring() as ring:
        assert list(ring.iterate(Timeout(1000, count=3))) == [True] * 3


@needs("io_uring")
def test_bytes_on_a_bare_ring() -> None:
    with Ring() as ring, socket_pair() as (left, right):
        ring.open_buffers(2, 64, 2)
        right.sendall(b"x" * 1000)
        right.shutdown(socket.SHUT_WR)
        assert b"".join(ring.iterate(Receive(left.fileno()))) == b"x" * 1000
