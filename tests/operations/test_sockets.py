"""Operations on sockets."""

import array
import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import needs
from tests.loop.helpers import LOCALHOST, listening_socket, socket_pair
from tests.operations.covering import fails, works
from tests.operations.helpers import opened, refused, running_loop, submit
from tests.variants import BACKENDS
from uringloop.operations import (
    Accept,
    Bind,
    Command,
    Connect,
    GetOption,
    Listen,
    MakeSocket,
    Message,
    Nop,
    Receive,
    ReceiveFrom,
    ReceiveInto,
    ReceiveMessage,
    ReceiveMessages,
    ReceiveZeroCopy,
    SendAll,
    SendMessage,
    SendMessageZeroCopy,
    SendTo,
    SendZeroCopy,
    SetOption,
    Shutdown,
    UnreadBytes,
    Unsent,
    address,
)

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket_pair() as sockets:
        yield sockets


@pytest.fixture
def unix_pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture
def udp() -> Iterator[Pair]:
    with socket.socket(type=socket.SOCK_DGRAM) as left, socket.socket(type=socket.SOCK_DGRAM) as right:
        for sock in (left, right):
            sock.setblocking(False)
            sock.bind((LOCALHOST, 0))
        yield left, right


def packed(name: tuple[str, int]) -> bytes:
    result = address.pack(socket.AF_INET, name)
    assert result is not None
    return result


@works(MakeSocket, Bind, Listen, Connect, Accept, SendAll, Receive, ReceiveInto, Shutdown)
async def test_a_connection_from_nothing() -> None:
    loop = running_loop()
    server = socket.socket(fileno=await submit(MakeSocket(socket.AF_INET, socket.SOCK_STREAM)))
    client = socket.socket(fileno=await submit(MakeSocket(socket.AF_INET, socket.SOCK_STREAM)))
    with server, client:
        assert not client.get_inheritable()
        assert os.get_blocking(client.fileno()) is False
        await submit(Bind(server.fileno(), packed((LOCALHOST, 0))))
        await submit(Listen(server.fileno(), 5))
        name = server.getsockname()
        (fd, peer), _ = await loop.submit_many([Accept(server.fileno()), Connect(client.fileno(), packed(name), name)])
        with socket.socket(fileno=fd) as accepted:
            assert peer == client.getsockname()
            assert await submit(SendAll(client.fileno(), b"hello")) == 5
            assert await submit(Receive(fd, 3)) == b"hel"
            buffer = bytearray(10)
            assert await submit(ReceiveInto(fd, buffer, flags=socket.MSG_PEEK)) == 2
            assert await submit(ReceiveInto(fd, buffer)) == 2
            assert buffer[:2] == b"lo"
            await submit(Shutdown(client.fileno(), socket.SHUT_WR))
            assert await submit(Receive(fd, 3)) == b""
            assert accepted.recv(1) == b""


@fails(MakeSocket, Bind, Listen, Connect, Accept, SendAll, Receive, ReceiveInto, Shutdown)
async def test_what_sockets_refuse(pair: Pair) -> None:
    left, right = pair
    await refused(MakeSocket(socket.AF_INET, 100), errno.EINVAL, errno.ESOCKTNOSUPPORT)
    await refused(MakeSocket(1000, socket.SOCK_STREAM), errno.EAFNOSUPPORT)
    await refused(Listen(left.fileno()), errno.EINVAL)
    await refused(Accept(left.fileno()), errno.EINVAL)
    await refused(Receive(-1, 10), errno.EBADF)
    await refused(ReceiveInto(0, bytearray(10)), errno.ENOTSOCK)
    with socket.socket() as fresh, listening_socket() as listener:
        fresh.setblocking(False)
        await refused(Bind(fresh.fileno(), packed(listener.getsockname())), errno.EADDRINUSE)
        await refused(Shutdown(fresh.fileno(), socket.SHUT_WR), errno.ENOTCONN)
        name = listener.getsockname()
        listener.close()
        await refused(Connect(fresh.fileno(), packed(name), name), errno.ECONNREFUSED)
    right.close()
    left.shutdown(socket.SHUT_WR)
    await refused(SendAll(left.fileno(), b"x"), errno.EPIPE)


@works(SendMessage, ReceiveMessage)
async def test_descriptors_travel_with_a_message(unix_pair: Pair) -> None:
    left, right = unix_pair
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [left.fileno()]))
    assert await submit(SendMessage(left.fileno(), [b"one", b"two"], [rights])) == 6
    first, second = bytearray(4), bytearray(4)
    receiving = ReceiveMessage(right.fileno(), [first, second], socket.CMSG_SPACE(array.array("i").itemsize))
    message = await submit(receiving)
    assert (message.data, first, second[:2], message.flags & socket.MSG_CTRUNC) == (6, b"onet", b"wo", 0)
    [(level, kind, data)] = message.ancillary
    assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
    with socket.socket(fileno=int.from_bytes(data, "little")) as copy:
        assert not copy.get_inheritable()
        copy.send(b"from the copy")
    assert right.recv(100) == b"from the copy"


async def test_descriptors_of_a_message_that_nobody_gets_are_closed(unix_pair: Pair) -> None:
    left, right = unix_pair
    space = socket.CMSG_SPACE(array.array("i").itemsize)
    task = asyncio.create_task(submit(ReceiveMessage(right.fileno(), [bytearray(4)], space)))
    await asyncio.sleep(0)
    # It arrives, and the task is cancelled before it has seen that.
    socket.send_fds(left, [b"x"], [left.fileno()])
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # If the cancel was first the message is still there, and its descriptor goes with it.
    with contextlib.suppress(BlockingIOError):
        assert right.recv(10) == b"x"


@works(SendMessage, ReceiveMessage, ReceiveFrom, SendTo)
async def test_datagrams_have_senders(udp: Pair) -> None:
    left, right = udp
    await submit(SendMessage(left.fileno(), [b"a ", b"datagram"], packed_address=packed(right.getsockname())))
    message = await submit(ReceiveMessage(right.fileno(), [buffer := bytearray(5)]))
    assert message == Message(5, [], socket.MSG_TRUNC, left.getsockname())
    assert buffer == b"a dat"
    await submit(SendTo(left.fileno(), b"another", packed(right.getsockname())))
    assert await submit(ReceiveFrom(right.fileno(), bytearray(10), 10, print)) == (7, left.getsockname())


@fails(SendMessage, ReceiveMessage, ReceiveFrom, SendTo)
async def test_messages_that_fail(udp: Pair) -> None:
    left, _ = udp
    await refused(SendMessage(left.fileno(), [b"x"]), errno.EDESTADDRREQ)
    await refused(SendTo(left.fileno(), b"x" * 70_000, packed(left.getsockname())), errno.EMSGSIZE)
    await refused(ReceiveMessage(left.fileno(), [bytearray(1)], flags=socket.MSG_DONTWAIT), errno.EAGAIN)
    await refused(ReceiveFrom(0, bytearray(1), 1, print), errno.ENOTSOCK)


@works(ReceiveMessages)
async def test_messages_one_after_the_other(udp: Pair) -> None:
    left, right = udp
    received = []
    async with running_loop().submit_multishot(ReceiveMessages(right.fileno())) as messages:
        for number in range(5):
            left.sendto(b"%d" % number * number, right.getsockname())
        async for message in messages:
            received.append(message)
            if len(received) == 5:
                break
    assert [message.data for message in received] == [b"", b"1", b"22", b"333", b"4444"]
    assert {message.address for message in received} == {left.getsockname()}


@fails(ReceiveMessages)
async def test_messages_of_no_socket() -> None:
    with pytest.raises(OSError, match="Socket operation on non-socket"):
        await anext(running_loop().submit_multishot(ReceiveMessages(0)))
    with pytest.raises(ValueError, match="multishot only"):
        await submit(ReceiveMessages(0))


@works(SendZeroCopy, SendMessageZeroCopy)
async def test_sends_end_with_the_notification(pair: Pair) -> None:
    left, right = pair
    data = bytearray(b"x" * 10_000)
    one, two = SendZeroCopy(left.fileno(), data), SendMessageZeroCopy(left.fileno(), [b"y", b"z" * 100])
    # Loopback frees the memory when it is received.
    sent = asyncio.gather(submit(one), submit(two))
    received = b""
    while len(received) < 10_101:
        received += await running_loop().sock_recv(right, 20_000)
    assert await sent == [10_000, 101]
    assert received == bytes(data) + b"y" + b"z" * 100
    data.clear()  # exported no more
    assert (one.was_copied, two.was_copied) == (True, True)


@works(SendZeroCopy)
async def test_a_chain_goes_on_before_the_notification(pair: Pair) -> None:
    left, right = pair
    data = bytearray(b"x" * 100_000)
    sent = asyncio.ensure_future(running_loop().submit_chain([SendZeroCopy(left.fileno(), data), Nop()]))
    left_bytes = len(data)
    while left_bytes > 0:
        left_bytes -= len(await running_loop().sock_recv(right, 200_000))
    assert await sent == [100_000, 0]
    data.clear()  # exported no more
    assert running_loop().statistics()["in_flight"] == 0


@works(SendZeroCopy)
async def test_datagrams_without_copying(udp: Pair) -> None:
    left, right = udp
    assert await submit(SendZeroCopy(left.fileno(), b"datagram", packed_address=packed(right.getsockname()))) == 8
    assert await running_loop().sock_recv(right, 100) == b"datagram"


@fails(SendZeroCopy, SendMessageZeroCopy)
async def test_zero_copy_sends_that_fail(pair: Pair, unix_pair: Pair) -> None:
    left, _ = pair
    await refused(SendZeroCopy(unix_pair[0].fileno(), b"x"), errno.EOPNOTSUPP)
    left.shutdown(socket.SHUT_WR)
    for operation in (SendZeroCopy(left.fileno(), b"x"), SendMessageZeroCopy(left.fileno(), [b"x"])):
        await refused(operation, errno.EPIPE)
    with socket.socket() as fresh:
        await refused(SendZeroCopy(fresh.fileno(), b"x", index=1000), errno.EFAULT)


async def test_a_cancelled_zero_copy_send_keeps_its_memory_until_the_notification(pair: Pair) -> None:
    left, right = pair
    data = bytearray(4 << 20)
    task = asyncio.create_task(submit(SendZeroCopy(left.fileno(), data, socket.MSG_WAITALL)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    if not task.done():
        with pytest.raises(BufferError):
            data.clear()
    right.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    data.clear()


@needs("socket commands")
@works(UnreadBytes, Unsent, GetOption, SetOption)
async def test_commands_of_sockets(pair: Pair) -> None:
    left, right = pair
    left.send(b"12345")
    assert await submit(UnreadBytes(right.fileno())) == 5
    assert await submit(Unsent(right.fileno())) == 0
    await submit(SetOption(left.fileno(), socket.SO_KEEPALIVE, 1))
    assert left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    await submit(SetOption(left.fileno(), socket.TCP_NODELAY, b"\1\0\0\0", socket.IPPROTO_TCP))
    assert left.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    value = await submit(GetOption(left.fileno(), socket.SO_KEEPALIVE))
    assert int.from_bytes(value, "little") == 1


@needs("socket commands")
@fails(UnreadBytes, Unsent, GetOption, SetOption, Command)
async def test_commands_that_are_not_understood(pair: Pair, tmp_path: Path) -> None:
    left, _ = pair
    await refused(Command(left.fileno(), 1000), errno.EOPNOTSUPP)
    await refused(SetOption(left.fileno(), 12345, 1), errno.ENOPROTOOPT)
    await refused(GetOption(left.fileno(), 12345), errno.ENOPROTOOPT)
    with opened(tmp_path / "file") as fd:
        for operation in (Command(fd, 0), UnreadBytes(fd), Unsent(fd)):
            await refused(operation, errno.EOPNOTSUPP)


@needs("commands of devices")
@works(Command)
async def test_a_command_of_a_device() -> None:
    """/dev/null takes any, and does nothing."""
    with opened("/dev/null", os.O_RDWR) as fd:
        assert await submit(Command(fd, 0)) == 0


@fails(ReceiveZeroCopy)
async def test_receiving_without_copying_needs_a_card_that_can(pair: Pair) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        await anext(running_loop().submit_multishot(ReceiveZeroCopy(pair[0].fileno())))
