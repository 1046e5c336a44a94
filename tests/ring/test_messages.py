"""Messages of other rings: each arrives, and none completes an operation."""

import asyncio
import os
import socket

import pytest

import uringloop
from tests.kernel import needs
from uringloop.operations import MessageRing, Read
from uringloop.ring import CqeFlag, Opcode, Ring

pytestmark = needs(MessageRing)

_PASS_FLAGS = 1 << 1  # IORING_MSG_RING_FLAGS_PASS
#: What a program with liburing may send: numbers, what looks like a token or a cancel, pointers, -1.
USER_DATA = [*range(64), 1 << 20, 0x7FFF_1234_5670, 0x00FF_FFFF_FFFF_F000, (1 << 64) - 1, (1 << 64) - 16]


def send_raw(sender: Ring, target_fd: int, user_data: int, res: int, flags: int = 0) -> None:
    """Send a message as another program would, with any user_data, and flags of its CQE."""
    options = _PASS_FLAGS if flags else 0
    sender.get_sqe().prep(Opcode.MSG_RING, target_fd, 0, res, user_data, options, file_index=flags)
    assert sender.wait_cqe().result() == 0


@pytest.mark.parametrize("number", [0, 1, 3, 16, 42, (1 << 60) - 1])
def test_a_message_arrives_with_its_number(ring: Ring, number: int) -> None:
    with Ring(8) as sender:
        sender.run(MessageRing(ring.fd, number, -7))
    message = ring.wait_cqe(10**9)
    assert (message.number, message.res, message.operation) == (number, -7, None)


@pytest.mark.parametrize("flags", [0, CqeFlag.MORE])
def test_no_message_completes_an_operation(ring: Ring, flags: int) -> None:
    reading, writing = os.pipe()
    buffer = bytearray(4)
    read = ring.prepare(Read(reading, buffer))
    ring.submit()
    with Ring(8) as sender:
        for user_data in USER_DATA:
            send_raw(sender, ring.fd, user_data, 3, flags)
            message = ring.wait_cqe(10**9)
            assert (message.user_data, message.res, message.operation) == (user_data, 3, None)
    assert ring.in_flight == ring.statistics()["in_flight"] == 1
    with pytest.raises(BufferError):
        buffer.extend(b"more")
    os.write(writing, b"done")
    assert ring.wait_cqe(10**9).operation is read
    assert buffer == b"done"
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("res", [1 << 31, -(1 << 31) - 1])
def test_a_result_that_does_not_fit(ring: Ring, res: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        ring.post(1, res)


@pytest.mark.parametrize("sleep", ["ring", "selector"])
@pytest.mark.parametrize("flags", [0, CqeFlag.MORE])
def test_no_message_touches_a_loop(sleep: str, flags: int) -> None:
    """Its reads, streams and datagrams go on, and it still counts what is in flight."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, uringloop.EventLoop)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        reading, writing = os.pipe()
        task = asyncio.create_task(loop.submit(Read(reading, bytearray(4))))
        await asyncio.sleep(0)
        before = loop.statistics()["in_flight"]
        with Ring(8) as sender:
            for user_data in USER_DATA:
                send_raw(sender, loop.ring.fd, user_data, 3, flags)
                await asyncio.sleep(0)
        assert loop.statistics()["in_flight"] == before
        theirs.send(b"bytes")
        assert await reader.readexactly(5) == b"bytes"
        os.write(writing, b"done")
        assert await task == 4
        transport.close()
        writer.close()
        await writer.wait_closed()
        theirs.close()
        os.close(reading)
        os.close(writing)

    uringloop.run(main(), sleep=sleep)
