"""Operations of sockets on epoll end as they do on io_uring."""

import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.epoll.hand import LINK, Cases, Hand, address_of, both, lent, message
from tests.kernel import needs
from uringloop.ring import Opcode, SqeFlag

CASES = Cases()
SELECT = SqeFlag.BUFFER_SELECT
POLL_FIRST, MULTISHOT, BUNDLE = 1, 2, 16
DONTWAIT, WAITALL = socket.MSG_DONTWAIT, socket.MSG_WAITALL


@needs("io_uring")
@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_as_io_uring(body: Callable[[Hand], Any]) -> None:
    both(body)


# Receives


@CASES.add
def a_receive(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"abcdef")
    buffer = bytearray(4)
    hand.stage("at once", Opcode.RECV, ours.fileno(), buffer)
    hand.wait_all()
    later = bytearray(4)
    ours.recv(4)
    hand.stage("later", Opcode.RECV, ours.fileno(), later)
    hand.stage("poll first", Opcode.RECV, ours.fileno(), later, ioprio=POLL_FIRST)
    hand.ring.submit()
    theirs.send(b"ghi")
    hand.wait()
    theirs.send(b"jk")
    return hand.wait_all()["at once"], sorted(hand.outcomes["later"] + hand.outcomes["poll first"]), bytes(buffer)


@CASES.add
def a_receive_that_may_not_wait(hand: Hand) -> Any:
    ours, _ = hand.pair()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4), op_flags=DONTWAIT)
    return hand.wait_all()


@CASES.add
def a_receive_on_a_socket_that_does_not_block(hand: Hand) -> Any:
    ours, theirs = hand.pair(blocks=False)
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4))
    hand.ring.submit()
    theirs.send(b"abc")
    return hand.wait_all()


@CASES.add
def a_receive_of_all(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    buffer = bytearray(6)
    hand.stage("receive", Opcode.RECV, ours.fileno(), buffer, op_flags=WAITALL)
    theirs.send(b"ab")
    hand.ring.submit()
    theirs.send(b"cd")
    hand.ring.submit()
    theirs.send(b"efgh")
    return hand.wait_all(), bytes(buffer)


@CASES.add
def a_receive_of_all_that_may_not_wait(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"ab")
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(6), op_flags=WAITALL | DONTWAIT, flags=LINK)
    hand.stage("after", Opcode.NOP)
    return hand.wait_all()


@CASES.add
def a_receive_of_all_whose_time_is_over(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"ab")
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(6), op_flags=WAITALL, flags=LINK)
    hand.stage("timeout", Opcode.LINK_TIMEOUT, memory=hand.seconds(0.01), length=1)
    return hand.wait_all()


@CASES.add
def a_peek_at_more_than_there_is(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"ab")
    buffer = bytearray(6)
    hand.stage("peek", Opcode.RECV, ours.fileno(), buffer, op_flags=WAITALL | socket.MSG_PEEK)
    return hand.wait_all(), bytes(buffer)


@CASES.add
def packets_in_order(hand: Hand) -> Any:
    ours, theirs = hand.pair(socket.SOCK_SEQPACKET)
    theirs.send(b"ab")
    buffer = bytearray(6)
    hand.stage("receive", Opcode.RECV, ours.fileno(), buffer, op_flags=WAITALL)
    hand.ring.submit()
    theirs.send(b"cdef")
    return hand.wait_all(), bytes(buffer)


@CASES.add
def a_datagram_is_all_there_is(hand: Hand) -> Any:
    ours, theirs = hand.pair(socket.SOCK_DGRAM)
    theirs.send(b"ab")
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(6), op_flags=WAITALL, flags=LINK)
    hand.stage("after", Opcode.NOP)
    return hand.wait_all()


@CASES.add
def a_receive_of_all_into_a_group_that_is_cancelled(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    group = hand.group(4, 6)
    theirs.send(b"ab")
    receive = hand.stage(
        "all", Opcode.RECV, ours.fileno(), length=6, op_flags=WAITALL, flags=SELECT, buf_index=group.group_id
    )
    hand.ring.submit()
    hand.cancel("cancel", receive)
    hand.wait_all()
    return hand.outcomes


@CASES.add
def a_receive_of_all_into_a_group_beside_another(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    other, others = hand.pair()
    group = hand.group(4, 6)
    theirs.send(b"ab")
    fields = {"flags": SELECT, "buf_index": group.group_id}
    hand.stage("all", Opcode.RECV, ours.fileno(), length=6, op_flags=WAITALL, **fields)
    hand.ring.submit()
    others.send(b"xyz")
    hand.stage("other", Opcode.RECV, other.fileno(), length=6, **fields)
    hand.wait()
    contents = [lent(hand, group)]
    theirs.send(b"cdef")
    hand.wait()
    return hand.outcomes, [*contents, lent(hand, group)]


@CASES.add
def a_peek(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"ab")
    hand.stage("peek", Opcode.RECV, ours.fileno(), bytearray(6), op_flags=socket.MSG_PEEK)
    return hand.wait_all(), ours.recv(6)


@CASES.add
def a_receive_of_nothing(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"abc")
    hand.stage("no room", Opcode.RECV, ours.fileno(), bytearray(1), length=0)
    hand.wait_all()
    ours.recv(3)
    theirs.close()
    hand.stage("end", Opcode.RECV, ours.fileno(), bytearray(4))
    group = hand.group()
    hand.stage("end of a group", Opcode.RECV, ours.fileno(), flags=SELECT, buf_index=group.group_id)
    hand.stage(
        "end of a multishot", Opcode.RECV, ours.fileno(), ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id
    )
    return hand.wait_all()


@CASES.add
def bad_receives(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"abc")
    fd = ours.fileno()
    pipe, _ = hand.pipe()
    group = hand.group()
    hand.stage("offset", Opcode.RECV, fd, bytearray(1), offset=1)
    hand.stage("priority", Opcode.RECV, fd, bytearray(1), ioprio=1 << 10)
    hand.stage("multishot without a group", Opcode.RECV, fd, bytearray(1), ioprio=MULTISHOT)
    hand.stage(
        "multishot of all", Opcode.RECV, fd, ioprio=MULTISHOT, op_flags=WAITALL, flags=SELECT, buf_index=group.group_id
    )
    hand.stage("no group", Opcode.RECV, fd, length=4, flags=SELECT, buf_index=999)
    hand.stage("multishot without that group", Opcode.RECV, fd, ioprio=MULTISHOT, flags=SELECT, buf_index=999)
    hand.stage("no socket", Opcode.RECV, pipe, bytearray(1))
    hand.stage("message of no socket", Opcode.RECVMSG, pipe, message(hand, bytearray(1)), 1)
    hand.stage("bad descriptor", Opcode.RECV, 1 << 20, bytearray(1))
    hand.stage("not connected", Opcode.RECV, hand.stack.enter_context(socket.socket()).fileno(), bytearray(1))
    hand.stage("flag", Opcode.RECV, fd, bytearray(1), op_flags=socket.MSG_OOB)
    hand.stage("nowhere", Opcode.RECV, fd, 8, 1)
    hand.stage("length", Opcode.RECV, fd, bytearray(1), 1 << 31)
    hand.stage("message length", Opcode.RECVMSG, fd, 0, 1 << 31)
    hand.stage("send's length", Opcode.SEND, fd, bytearray(1), 1 << 31)
    hand.stage("length of a message to send", Opcode.SENDMSG, fd, 0, 1 << 31)
    hand.stage("message offset", Opcode.RECVMSG, fd, message(hand, bytearray(1)), 1, offset=1)
    hand.stage("message nowhere", Opcode.RECVMSG, fd, 0, 1)
    return hand.wait_all()


@CASES.add
def a_multishot_receive(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    group = hand.group(4, 4)
    hand.stage("receive", Opcode.RECV, ours.fileno(), ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id)
    hand.ring.submit()
    contents = []
    for data in (b"ab", b"cd"):
        theirs.send(data)
        hand.wait()
        contents.append(lent(hand, group))
    theirs.send(b"0123456789")
    hand.wait(3)
    theirs.close()
    hand.wait_all()
    return hand.outcomes, contents


@CASES.add
def a_multishot_receive_whose_buffers_are_used_up(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    group = hand.group(2, 4)
    hand.stage("receive", Opcode.RECV, ours.fileno(), ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id)
    hand.ring.submit()
    theirs.send(b"0123456789")
    return hand.wait_all(), ours.recv(10)


@CASES.add
def a_multishot_receive_with_less_than_a_buffer(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    group = hand.group(4, 8)
    hand.stage(
        "receive", Opcode.RECV, ours.fileno(), length=3, ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id
    )
    theirs.send(b"01234")
    theirs.shutdown(socket.SHUT_WR)
    return hand.wait_all()


@CASES.add
def a_multishot_receive_that_is_reset(hand: Hand) -> Any:
    ours, theirs = hand.tcp_pair()
    group = hand.group()
    hand.stage("receive", Opcode.RECV, ours.fileno(), ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id)
    hand.ring.submit()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    return hand.wait_all()


@CASES.add
def a_receive_without_a_buffer(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    group = hand.group(1, 4)
    theirs.send(b"01234567")
    for name in ("first", "second"):
        hand.stage(name, Opcode.RECV, ours.fileno(), flags=SELECT, buf_index=group.group_id)
    return hand.wait_all()


# Messages


@CASES.add
def messages(hand: Hand) -> Any:
    ours, theirs = hand.pair(socket.SOCK_DGRAM)
    first, second = bytearray(2), bytearray(10)
    head = message(hand, first, second)
    hand.stage("receive", Opcode.RECVMSG, ours.fileno(), head, 1)
    hand.stage("send", Opcode.SENDMSG, theirs.fileno(), message(hand, b"abc", b"def"), 1)
    return hand.wait_all(), bytes(first), bytes(second), head[8:12], head[40:52]


@CASES.add
def a_message_with_a_descriptor(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    control = bytearray(socket.CMSG_SPACE(4))
    head = message(hand, bytearray(4), control=control)
    hand.stage("receive", Opcode.RECVMSG, ours.fileno(), head, 1)
    hand.ring.submit()
    socket.send_fds(theirs, [b"x"], [0])
    hand.wait_all()
    size, level, kind, fd = struct.unpack_from("Qiii", control)
    os.close(fd)
    return hand.outcomes, size, level, kind


@CASES.add
def a_message_of_all(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    first, second = bytearray(2), bytearray(4)
    hand.stage("receive", Opcode.RECVMSG, ours.fileno(), message(hand, first, second), 1, op_flags=WAITALL, flags=LINK)
    hand.stage("after", Opcode.NOP)
    theirs.send(b"abc")
    hand.ring.submit()
    theirs.send(b"def")
    return hand.wait_all(), bytes(first), bytes(second)


@CASES.add
def a_short_message_of_all(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.send(b"abc")
    theirs.close()
    head = message(hand, bytearray(2), bytearray(4))
    hand.stage("receive", Opcode.RECVMSG, ours.fileno(), head, 1, op_flags=WAITALL, flags=LINK)
    hand.stage("after", Opcode.NOP)
    return hand.wait_all()


@CASES.add
def a_message_into_a_group(hand: Hand) -> Any:
    ours, theirs = hand.pair(socket.SOCK_DGRAM)
    group = hand.group(4, 8)
    fields = {"flags": SELECT, "buf_index": group.group_id}
    theirs.send(b"abc")
    hand.stage("receive", Opcode.RECVMSG, ours.fileno(), message(hand, bytearray(5)), 1, **fields)
    hand.wait_all()
    content = lent(hand, group)
    theirs.send(b"0123456789")
    hand.stage("without a buffer", Opcode.RECVMSG, ours.fileno(), message(hand), 1, **fields)
    theirs.send(b"0123456789")
    hand.stage("two buffers", Opcode.RECVMSG, ours.fileno(), message(hand, bytearray(5), bytearray(5)), 1, **fields)
    return hand.wait_all(), content


@CASES.add
def all_into_a_group(hand: Hand) -> Any:
    """A part of what is asked for keeps its buffer, and an end before the rest breaks the link."""
    seen = []
    for asked, parts in ((0, [b"ab", b"cd"]), (5, [b"ab", b"cd"]), (5, [b"ab", b"cdefg"]), (20, [b"abcd", b"efgh"])):
        ours, theirs = hand.pair()
        group = hand.group(1, 8)
        fields = {"op_flags": WAITALL, "flags": SELECT | LINK, "buf_index": group.group_id}
        memory = [bytearray(asked)] if asked else []
        hand.stage("receive", Opcode.RECVMSG, ours.fileno(), message(hand, *memory), 1, **fields)
        hand.stage("after", Opcode.NOP)
        for part in parts:
            hand.ring.submit()
            theirs.send(part)
        theirs.shutdown(socket.SHUT_WR)
        hand.wait()
        seen.append(lent(hand, group))
        hand.wait_all()
        group.close()
    return hand.outcomes, seen


@CASES.add
def a_datagram_shorter_than_all(hand: Hand) -> Any:
    """It breaks a link, as an end does."""
    ours, theirs = hand.pair(socket.SOCK_DGRAM)
    for number, (opcode, asked) in enumerate([(op, n) for op in (Opcode.RECV, Opcode.RECVMSG) for n in (0, 3, 20)]):
        group = hand.group(1, 8)
        fields = {"op_flags": WAITALL, "flags": SELECT | LINK, "buf_index": group.group_id}
        theirs.send(b"abc")
        if opcode == Opcode.RECV:
            hand.stage(f"receive {number}", opcode, ours.fileno(), 0, asked, **fields)
        else:
            memory = [bytearray(asked)] if asked else []
            hand.stage(f"receive {number}", opcode, ours.fileno(), message(hand, *memory), 1, **fields)
        hand.stage(f"after {number}", Opcode.NOP)
        hand.wait_all()
        group.close()
    return hand.outcomes


def layout(data: bytes) -> Any:
    """Return struct io_uring_recvmsg_out, and the bytes behind it."""
    return struct.unpack_from("IIII", data), data[16:]


@CASES.add
def multishot_messages(hand: Hand) -> Any:
    ours = hand.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    ours.bind(("127.0.0.1", 0))
    theirs = hand.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    theirs.bind(("127.0.0.1", 0))
    group = hand.group(4, 16 + 16 + 32 + 8)
    head = message(hand, name=bytes(16), control=bytes(32))
    hand.stage(
        "receive", Opcode.RECVMSG, ours.fileno(), head, 1, ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id
    )
    hand.ring.submit()
    seen = []
    for data in (b"abc", b"much more than there is room for", b""):
        theirs.sendto(data, ours.getsockname())
        hand.wait()
        numbers, rest = layout(lent(hand, group))
        seen.append((numbers, len(rest), rest[:2], rest[16 + 32 :]))
        assert rest[2:4] == struct.pack("!H", theirs.getsockname()[1])
    return hand.wait_all(), seen


@CASES.add
def multishot_messages_with_control_data(hand: Hand) -> Any:
    ours, theirs = hand.pair(socket.SOCK_DGRAM)
    group = hand.group(4, 100)
    head = message(hand, control=bytes(40))
    sqe = hand.stage(
        "receive", Opcode.RECVMSG, ours.fileno(), head, 1, ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id
    )
    hand.ring.submit()
    socket.send_fds(theirs, [b"x"], [0])
    hand.wait()
    numbers, rest = layout(lent(hand, group))
    size, level, kind, fd = struct.unpack_from("Qiii", rest)
    os.close(fd)
    theirs.send(b"y")
    hand.wait()
    hand.cancel("cancel", sqe)
    return hand.wait_all(), numbers, size, level, kind


@CASES.add
def multishot_messages_into_small_buffers(hand: Hand) -> Any:
    ours, theirs = hand.pair(socket.SOCK_DGRAM)
    group = hand.group(4, 8)
    head = message(hand, name=bytes(16))
    hand.stage(
        "receive", Opcode.RECVMSG, ours.fileno(), head, 1, ioprio=MULTISHOT, flags=SELECT, buf_index=group.group_id
    )
    theirs.send(b"abc")
    return hand.wait_all()


@CASES.add
def multishot_messages_whose_buffers_are_used_up(hand: Hand) -> Any:
    ours, theirs = hand.pair(socket.SOCK_DGRAM)
    group = hand.group(2, 64)
    hand.stage(
        "receive",
        Opcode.RECVMSG,
        ours.fileno(),
        message(hand),
        1,
        ioprio=MULTISHOT,
        flags=SELECT,
        buf_index=group.group_id,
    )
    for data in (b"a", b"b", b"c"):
        theirs.send(data)
    return hand.wait_all(), ours.recv(10)


# Sends


@CASES.add
def a_send(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("send", Opcode.SEND, ours.fileno(), b"abc")
    hand.stage("empty", Opcode.SEND, ours.fileno(), b"")
    hand.stage("poll first", Opcode.SEND, ours.fileno(), b"def", ioprio=POLL_FIRST)
    hand.wait_all()
    return hand.outcomes, theirs.recv(10)


def full(sock: socket.socket) -> int:
    """Fill a socket's buffer; return the number of bytes."""
    sock.setblocking(False)
    size = 0
    try:
        while True:
            size += sock.send(bytes(4096))
    except BlockingIOError:
        sock.setblocking(True)
        return size


def drained(sock: socket.socket, size: int) -> None:
    while size:
        size -= len(sock.recv(size))


@CASES.add
def a_send_that_waits(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    size = full(ours)
    hand.stage("not now", Opcode.SEND, ours.fileno(), b"abc", op_flags=DONTWAIT)
    hand.wait_all()
    hand.stage("send", Opcode.SEND, ours.fileno(), b"abc")
    hand.ring.submit()
    drained(theirs, size)
    return hand.wait_all(), theirs.recv(10)


@CASES.add
def a_send_of_all(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    data = bytes(range(256)) * 4096
    hand.stage("send", Opcode.SEND, ours.fileno(), data, op_flags=WAITALL, flags=LINK)
    hand.stage("after", Opcode.NOP)
    hand.ring.submit()
    received = b""
    while len(received) < len(data):
        received += theirs.recv(1 << 20)
        hand.ring.submit()
    return hand.wait_all(), received == data


@CASES.add
def a_message_sent_as_a_whole(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    data = bytes(range(256)) * 1024
    head = message(hand, data, b"middle", data, data)
    hand.stage("send", Opcode.SENDMSG, ours.fileno(), head, 1, op_flags=WAITALL, flags=LINK)
    hand.stage("after", Opcode.NOP)
    hand.ring.submit()
    received = b""
    while len(received) < 3 * len(data) + 6:
        received += theirs.recv(1 << 20)
        hand.ring.submit()
    return hand.wait_all(), received == data + b"middle" + data + data


@CASES.add
def a_send_of_all_that_is_cancelled(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    send = hand.stage("send", Opcode.SEND, ours.fileno(), bytes(1 << 20), op_flags=WAITALL, flags=LINK)
    hand.stage("after", Opcode.NOP)
    hand.ring.submit()
    hand.cancel("cancel", send)
    hand.wait_all()
    res = hand.outcomes["send"][0][0]
    assert isinstance(res, int)
    return len(theirs.recv(1 << 20, WAITALL | DONTWAIT)) == res, hand.outcomes["after"], hand.outcomes["cancel"]


@CASES.add
def a_send_of_all_whose_peer_goes(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    hand.stage("send", Opcode.SEND, ours.fileno(), bytes(1 << 20), op_flags=WAITALL, flags=LINK)
    hand.stage("after", Opcode.NOP)
    hand.ring.submit()
    theirs.close()
    res = hand.wait_all()["send"][0][0]
    return isinstance(res, int) and 0 < res < 1 << 20, hand.outcomes["after"]


@CASES.add
def sends_that_fail(hand: Hand) -> Any:
    ours, theirs = hand.pair()
    theirs.close()
    pipe, _ = hand.pipe()
    fd = ours.fileno()
    hand.stage("broken", Opcode.SEND, fd, b"abc")
    hand.stage("broken message", Opcode.SENDMSG, fd, message(hand, b"abc"), 1)
    hand.stage("no socket", Opcode.SEND, pipe, b"abc")
    hand.stage("bad descriptor", Opcode.SEND, 1 << 20, b"abc")
    hand.stage("not connected", Opcode.SEND, hand.stack.enter_context(socket.socket()).fileno(), b"abc")
    hand.stage("priority", Opcode.SEND, fd, b"abc", ioprio=1 << 10)
    hand.stage("receive's", Opcode.SEND, fd, b"abc", ioprio=MULTISHOT)
    hand.stage("message offset", Opcode.SENDMSG, fd, message(hand, b"abc"), 1, offset=1)
    hand.stage("message index", Opcode.SENDMSG, fd, message(hand, b"abc"), 1, file_index=1)
    return hand.wait_all()


@CASES.add
def a_datagram_to_an_address(hand: Hand) -> Any:
    ours = hand.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    theirs = hand.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    theirs.bind(("127.0.0.1", 0))
    target = address_of(theirs)
    hand.stage("send", Opcode.SEND, ours.fileno(), b"abc", offset=target, file_index=len(target))
    hand.stage("long address", Opcode.SEND, ours.fileno(), b"abc", offset=target, file_index=200)
    hand.stage("too large", Opcode.SEND, ours.fileno(), bytes(70000), offset=target, file_index=len(target))
    return hand.wait_all(), theirs.recv(10)


@CASES.add
def a_datagram_to_a_closed_socket(hand: Hand) -> Any:
    ours = hand.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    gone = hand.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    gone.bind(("127.0.0.1", 0))
    ours.connect(gone.getsockname())
    gone.close()
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(4))
    hand.ring.submit()
    ours.send(b"abc")
    return hand.wait_all()
