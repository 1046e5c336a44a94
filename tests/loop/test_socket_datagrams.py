"""`loop.sock_recvfrom`, `sock_recvfrom_into` and `sock_sendto`: datagrams with their addresses, none lost."""

import array
import asyncio
import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.housekeeping import settle
from tests.variants import EVERY, RINGS

from .helpers import LOCALHOST, pattern
from .test_cancel import interrupted, turns
from .test_sockets import begun, cancelled

pytestmark = pytest.mark.asyncio(loop_factories=EVERY)

FAMILIES = ("ipv4", "ipv6", "unix", "abstract")
_LARGEST = 65507


def bound_socket(family: str, folder: Path, name: str) -> socket.socket:
    kind, address = {
        "ipv4": (socket.AF_INET, (LOCALHOST, 0)),
        "ipv6": (socket.AF_INET6, ("::1", 0)),
        "unix": (socket.AF_UNIX, str(folder / name)),
        "abstract": (socket.AF_UNIX, f"\0{folder}/{name}"),
    }[family]
    sock = socket.socket(kind, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        pytest.skip(f"no {family} here: {error}")
    return sock


@contextlib.contextmanager
def datagram_sockets(family: str, folder: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    with bound_socket(family, folder, "left") as left, bound_socket(family, folder, "right") as right:
        yield left, right


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    with datagram_sockets(request.param, folder) as sockets:
        yield sockets


@pytest.fixture
def udp(folder: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    with datagram_sockets("ipv4", folder) as sockets:
        yield sockets


Pair = tuple[socket.socket, socket.socket]


async def test_a_datagram_arrives_with_its_sender(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = pair
    assert await loop.sock_sendto(left, b"hello", right.getsockname()) == 5
    assert await loop.sock_recvfrom(right, 100) == (b"hello", left.getsockname())


async def test_a_receive_waits_for_its_datagram(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = pair
    receiving = await begun(loop.sock_recvfrom(right, 100))
    assert not receiving.done()
    left.sendto(b"later", right.getsockname())
    assert await receiving == (b"later", left.getsockname())


async def test_a_sender_without_a_name_has_none(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    with bound_socket("unix", folder, "receiver") as receiver, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"1", receiver.getsockname())
        sock.sendto(b"2", receiver.getsockname())
        assert await loop.sock_recvfrom(receiver, 10) == (b"1", None)
        assert await loop.sock_recvfrom_into(receiver, bytearray(10)) == (1, None)


async def test_each_datagram_is_received_once_and_whole_or_cut_off(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = pair
    sender = left.getsockname()
    for data in (b"0123456789", b"", b"abc", b"lost"):
        await loop.sock_sendto(left, data, right.getsockname())
    assert await loop.sock_recvfrom(right, 4) == (b"0123", sender)
    assert await loop.sock_recvfrom(right, 4) == (b"", sender)
    assert await loop.sock_recvfrom(right, 4) == (b"abc", sender)
    # Not even of nothing.
    assert await loop.sock_recvfrom(right, 0) == (b"", sender)
    receiving = await begun(loop.sock_recvfrom(right, 4))
    assert not receiving.done()
    await cancelled(receiving)


@pytest.mark.parametrize("size_bytes", [1, 64, 1500, 32 * 1024, 40_000, _LARGEST])
async def test_sizes_up_to_the_largest(udp: Pair, size_bytes: int) -> None:
    loop = asyncio.get_running_loop()
    left, right = udp
    data = pattern(size_bytes)
    for _ in range(3):
        assert await loop.sock_sendto(left, data, right.getsockname()) == size_bytes
    assert await loop.sock_recvfrom(right, 65536) == (data, left.getsockname())
    assert await loop.sock_recv(right, 65536) == data
    buffer = bytearray(size_bytes)
    assert await loop.sock_recv_into(right, buffer) == size_bytes
    assert buffer == data


async def test_a_datagram_that_is_too_large_is_refused(udp: Pair) -> None:
    left, right = udp
    with pytest.raises(OSError, match="Message too long"):
        await asyncio.get_running_loop().sock_sendto(left, bytes(_LARGEST + 1), right.getsockname())


async def test_recvfrom_into_fills_a_part_of_the_buffer(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = pair
    for _ in range(4):
        left.sendto(b"01234567", right.getsockname())
    sender = left.getsockname()
    buffer = bytearray(12)
    assert await loop.sock_recvfrom_into(right, buffer) == (8, sender)
    assert buffer == b"01234567\0\0\0\0"
    buffer = bytearray(12)
    assert await loop.sock_recvfrom_into(right, memoryview(buffer)[4:]) == (8, sender)
    assert buffer == b"\0\0\0\x0001234567"
    buffer = bytearray(12)
    assert await loop.sock_recvfrom_into(right, buffer, 5) == (5, sender)
    assert buffer == b"01234" + bytes(7)
    # As asyncio: the length in items is taken for one in bytes.
    numbers = array.array("I", bytes(16))
    assert await loop.sock_recvfrom_into(right, numbers) == (4, sender)
    assert numbers.tobytes() == b"0123" + bytes(12)
    buffer.extend(b"and all are free again")
    numbers.append(1)


async def test_recvfrom_takes_from_a_stream_too() -> None:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        left.send(b"stream")
        assert await loop.sock_recvfrom(right, 3) == (b"str", None)
        assert await loop.sock_recvfrom_into(right, bytearray(10)) == (3, None)


async def test_a_connected_socket_hears_of_a_refusal(udp: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = udp
    left.connect(right.getsockname())
    right.close()
    await loop.sock_sendto(left, b"x", left.getpeername())
    with pytest.raises(ConnectionRefusedError):
        await loop.sock_recvfrom(left, 10)


@pytest.mark.parametrize(
    "target",
    [
        ("localhost", None),
        ("", None),
        ("127.1", None),
    ],
)
async def test_the_socket_resolves_what_is_no_literal(udp: Pair, target: Any) -> None:
    loop = asyncio.get_running_loop()
    left, right = udp
    await loop.sock_sendto(left, b"x", (target[0], right.getsockname()[1]))
    assert await loop.sock_recvfrom(right, 10) == (b"x", left.getsockname())


@pytest.mark.parametrize(
    "target",
    [
        None,
        "127.0.0.1",
        ("127.0.0.1",),
        ("127.0.0.1", 1, 2),
        ("127.0.0.1", "1"),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        (1, 1),
        (b"127.0.0.1\0", 1),
        ["127.0.0.1", 1],
        ("::1", 1),
        ("no such name\0", 1),
    ],
)
async def test_a_wrong_address_is_refused_as_by_the_socket(udp: Pair, target: Any) -> None:
    left, _ = udp
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever the socket raises
        left.sendto(b"x", target)
    with pytest.raises(type(expected.value)) as refused:
        await asyncio.get_running_loop().sock_sendto(left, b"x", target)
    assert refused.value.args == expected.value.args


@pytest.mark.parametrize("extra", [(-1, 0), (1 << 20, 0), (0, "x"), (0, 0, 0), (1.5, 0)])
async def test_a_wrong_ipv6_address_is_refused_as_by_the_socket(folder: Path, extra: tuple[Any, ...]) -> None:
    with bound_socket("ipv6", folder, "") as sock:
        with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever the socket raises
            sock.sendto(b"x", ("::1", 9, *extra))
        with pytest.raises(type(expected.value)) as refused:
            await asyncio.get_running_loop().sock_sendto(sock, b"x", ("::1", 9, *extra))
        assert refused.value.args == expected.value.args


async def test_a_name_of_another_ipv6_scope_comes_back(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    with datagram_sockets("ipv6", folder) as (left, right):
        host, port, _, _ = right.getsockname()
        for target in ((host, port), (host, port, 0), (host, port, 0, 0), (host, port, 0, 1)):
            await loop.sock_sendto(left, b"x", target)
            assert await loop.sock_recvfrom(right, 10) == (b"x", left.getsockname())


@pytest.mark.parametrize("wrong", [b"bytes", b"a" * 200, 1, ("a", 1), Path("x")])
async def test_a_wrong_unix_address_is_refused_as_by_the_socket(folder: Path, wrong: Any) -> None:
    with bound_socket("unix", folder, "sender") as sock:
        with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever the socket raises
            sock.sendto(b"x", wrong)
        with pytest.raises(type(expected.value)) as refused:
            await asyncio.get_running_loop().sock_sendto(sock, b"x", wrong)
        assert refused.value.args == expected.value.args


@pytest.mark.parametrize("connects", [False, True])
async def test_a_full_receiver_is_waited_for(folder: Path, connects: bool) -> None:
    """However poll sees it, each datagram arrives once, whole and in order."""
    loop = asyncio.get_running_loop()
    with datagram_sockets("unix", folder) as (left, right):
        if connects:
            left.connect(right.getsockname())

        async def send() -> None:
            for number in range(100):
                await loop.sock_sendto(left, b"%d" % number, right.getsockname())

        sending = await begun(send())
        received = []
        for _ in range(100):
            await turns(3)
            received.append((await loop.sock_recvfrom(right, 100))[0])
        await sending
        assert received == [b"%d" % number for number in range(100)]


# asyncio has one writer for a descriptor, and forgets the others.
@pytest.mark.asyncio(loop_factories=RINGS)
@pytest.mark.parametrize("connects", [False, True])
async def test_many_wait_for_a_full_receiver(folder: Path, connects: bool) -> None:
    loop = asyncio.get_running_loop()
    with datagram_sockets("unix", folder) as (left, right):
        if connects:
            left.connect(right.getsockname())
        expected = {b"%d" % number for number in range(100)}
        sending = [asyncio.create_task(loop.sock_sendto(left, data, right.getsockname())) for data in expected]
        received = []
        for _ in expected:
            await turns(3)
            received.append((await loop.sock_recvfrom(right, 100))[0])
        await asyncio.gather(*sending)
        assert sorted(received) == sorted(expected)


# Cancelling


async def test_a_cancelled_receive_leaves_the_datagram_and_the_buffer(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = pair
    buffer = bytearray(10)
    await cancelled(await begun(loop.sock_recvfrom(right, 100)))
    await cancelled(await begun(loop.sock_recvfrom_into(right, buffer)))
    left.sendto(b"for the next", right.getsockname())
    assert await loop.sock_recvfrom(right, 100) == (b"for the next", left.getsockname())
    assert buffer == bytes(10)
    buffer.extend(b"free again")


async def test_a_cancelled_sendto_lets_go_of_the_buffer(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    with datagram_sockets("unix", folder) as (left, right):
        with contextlib.suppress(BlockingIOError):
            while True:
                left.sendto(b"full", right.getsockname())
        data = bytearray(b"never sent")
        await cancelled(await begun(loop.sock_sendto(left, data, right.getsockname())))
        data.extend(b"free again")
        with contextlib.suppress(BlockingIOError):
            while True:
                assert right.recv(100) == b"full"


# asyncio loses what its future already held when the task was cancelled.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_cancelled_receives_lose_no_datagram(pair: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = pair

    async def receive(choices: random.Random) -> tuple[bytes, Any]:
        while True:
            after_turns = choices.randrange(6)
            match choices.randrange(4):
                case 0:
                    result = await interrupted(loop.sock_recvfrom(right, 100), after_turns)
                case 1:
                    buffer = bytearray(100)
                    result = await interrupted(loop.sock_recvfrom_into(right, buffer), after_turns)
                    result = result and (bytes(buffer[: result[0]]), result[1])
                    buffer.extend(b"released")
                case 2:
                    data = await interrupted(loop.sock_recv(right, 100), after_turns)
                    result = data and (data, left.getsockname())
                case _:
                    buffer = bytearray(100)
                    count = await interrupted(loop.sock_recv_into(right, buffer), after_turns)
                    result = count and (bytes(buffer[:count]), left.getsockname())
            if result:
                return bytes(result[0]), result[1]

    for seed in range(30):
        choices = random.Random(f"datagrams {seed}")

        async def send(choices: random.Random = choices) -> None:
            for number in range(10):
                left.sendto(b"%d" % number, right.getsockname())
                await turns(choices.randrange(5))

        sending = asyncio.create_task(send())
        received = [await receive(choices) for _ in range(10)]
        await sending
        assert received == [(b"%d" % number, left.getsockname()) for number in range(10)]
        assert not await settle()


@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_datagram_that_was_kept_is_cut_off_like_any_other(udp: Pair) -> None:
    loop = asyncio.get_running_loop()
    left, right = udp
    for delay in range(5):
        receiving = await begun(loop.sock_recvfrom(right, 100))
        left.sendto(b"0123456789", right.getsockname())
        left.sendto(b"the next", right.getsockname())
        await turns(delay)
        receiving.cancel()
        try:
            assert await receiving == (b"0123456789", left.getsockname())
        except asyncio.CancelledError:
            assert await loop.sock_recv(right, 3) == b"012"
        assert await loop.sock_recvfrom(right, 100) == (b"the next", left.getsockname())


# Other families have asyncio's own methods.


async def test_a_family_without_ip_or_path_works_as_with_asyncio() -> None:
    if not hasattr(socket, "AF_NETLINK"):
        pytest.skip("no netlink")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.setblocking(False)
        sock.bind((0, 0))
        # RTM_GETLINK, a dump of all: see netlink(7) and rtnetlink(7).
        question = (32).to_bytes(4, "little") + bytes([18, 0, 1, 3]) + bytes(24)
        assert await loop.sock_sendto(sock, question, (0, 0)) == 32
        data, sender = await loop.sock_recvfrom(sock, 65536)
        assert data
        assert sender == (0, 0)
