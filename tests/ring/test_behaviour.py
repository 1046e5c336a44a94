"""What liburing's own suite shows of the kernel, on the bare ring: races, overflows, ends, and odd moments."""

import errno
import os
import select
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.children import script
from tests.kernel import needs
from uringloop.operations import Accept, Nop, Open, Read, Ready, ReceiveInto, SendAll, Timeout, Write
from uringloop.ring import Opcode, Pin, Ring, SqeFlag, SqPoll

MULTISHOT = 1 << 1


def _never(data: bytes) -> None:
    raise AssertionError(f"{data!r} was kept")


def by_operation(ring: Ring) -> dict[Any, int]:
    return {completion.operation: completion.res for completion in ring.completions()}


# Cancel races


@pytest.mark.parametrize("data_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"shared": True}, {"sq_poll": SqPoll(1)}], ids=["", "shared", "sqpoll"])
def test_a_cancel_that_meets_its_data(options: dict[str, Any], data_first: bool) -> None:
    """Whoever wins, no byte is lost: the receive has it, or the socket still does."""
    for _ in range(50):
        ours, theirs = socket.socketpair()
        with Ring(8, **options) as ring, ours, theirs:
            buffer = bytearray(4)
            receive = ring.prepare(ReceiveInto(ours.fileno(), buffer, _never))
            ring.submit()
            steps = [lambda to=theirs: to.send(b"data"), lambda ring=ring, it=receive: (ring.cancel(it), ring.submit())]
            for step in steps if data_first else reversed(steps):
                step()
            res = by_operation(ring)[receive]
            if res == -errno.ECANCELED:
                assert ours.recv(4, socket.MSG_DONTWAIT) == b"data"
            else:
                assert (res, buffer) == (4, b"data")


def test_a_cancel_of_what_is_over(ring: Ring) -> None:
    operation = Nop()
    ring.run(operation)
    ring.cancel(operation)
    assert list(ring.completions()) == []


def test_a_cancel_of_what_is_only_staged(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    receive = ring.prepare(ReceiveInto(pair[0].fileno(), bytearray(4), _never))
    ring.cancel(receive)
    assert by_operation(ring) == {receive: -errno.ECANCELED}


def test_many_cancels_at_once(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    receives = [ring.prepare(ReceiveInto(pair[0].fileno(), bytearray(1), _never)) for _ in range(100)]
    pair[1].send(bytes(30))
    for receive in reversed(receives):
        ring.cancel(receive)
    results = by_operation(ring)
    assert len(results) == 100
    # What was not received is still there.
    left = 0
    while select.select([pair[0]], [], [], 0)[0]:
        left += len(pair[0].recv(100))
    assert list(results.values()).count(1) + left == 30


# Overflow


@needs("multishot receives")
def test_overflow_while_multishots_go_on(pair: tuple[socket.socket, socket.socket]) -> None:
    """A completion queue of eight, and many more: each is seen once and in order, although multishots end."""
    ours, theirs = pair
    with Ring(4, cq_entries=8) as ring:
        group = ring.open_group(64, 1)
        received = bytearray()
        content = bytes(range(200))

        def arm() -> None:
            ring.get_sqe().prep(
                Opcode.RECV, ours.fileno(), flags=SqeFlag.BUFFER_SELECT, buf_index=group.group_id, ioprio=MULTISHOT
            )

        arm()
        ring.submit()
        theirs.send(content)
        theirs.shutdown(socket.SHUT_WR)
        for completion in ring.completions():
            if completion.buffer_id is not None:
                with group.lend(completion) as data:
                    received += data
            if not completion.more and completion.res != 0:
                assert completion.res in (1, -errno.ENOBUFS)
                arm()
        assert received == content


# Ends


@needs("multishot receives")
def test_a_multishot_receive_ends_with_its_peer(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    group = ring.open_group(8, 100)
    ring.get_sqe().prep(
        Opcode.RECV, ours.fileno(), flags=SqeFlag.BUFFER_SELECT, buf_index=group.group_id, ioprio=MULTISHOT
    )
    ring.submit()
    theirs.send(b"data")
    first = ring.wait_cqe()
    assert (first.res, first.more) == (4, True)
    group.lend(first).recycle()
    theirs.close()
    last = ring.wait_cqe()
    assert (last.res, last.more) == (0, False)


@needs("multishot accepts")
def test_a_multishot_accept_ends_with_its_listener(ring: Ring) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = ring.iterate(Accept(listener.fileno()))
        for _ in range(3):
            with socket.create_connection(listener.getsockname()):
                os.close(_number(next(accepted)))
        accepted.close()  # type: ignore[attr-defined]
    assert ring.in_flight == 0


def _number(accepted: Any) -> int:
    return accepted if isinstance(accepted, int) else accepted[0]


@needs("multishot accepts")
def test_an_iteration_that_is_left_disposes_of_the_rest(ring: Ring) -> None:
    """Connections that were accepted and not taken are closed (a fixture looks)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = ring.iterate(Accept(listener.fileno()))
        peers = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        os.close(_number(next(accepted)))
        accepted.close()  # type: ignore[attr-defined]
        for peer in peers:
            peer.close()


# Short, and not ready


def test_short_reads(ring: Ring, tmp_path: Path) -> None:
    """A read across the end of a file gives what is there, and then nothing."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        buffer = bytearray(8)
        sizes = [ring.run(Read(file.fileno(), buffer, offset)) for offset in (0, 4, 8, 10, 1000)]
        assert sizes == [8, 6, 2, 0, 0]


def test_a_short_read_of_a_pipe(ring: Ring) -> None:
    read_end, write_end = os.pipe()
    buffer = bytearray(100)
    read = ring.prepare(Read(read_end, buffer))
    ring.submit()
    os.write(write_end, b"some")
    assert by_operation(ring) == {read: 4}
    os.close(write_end)
    assert ring.run(Read(read_end, bytearray(10))) == 0
    os.close(read_end)


def test_sockets_that_are_not_ready(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """Also a non-blocking socket is waited for; MSG_DONTWAIT is not."""
    ours, theirs = pair
    ours.setblocking(False)
    pin = Pin(bytearray(4), writable=True)
    sqe = ring.get_sqe()
    sqe.hold(pin)
    sqe.prep(Opcode.RECV, ours.fileno(), pin.address, 4, op_flags=socket.MSG_DONTWAIT)
    assert ring.wait_cqe().res == -errno.EAGAIN
    receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
    ring.submit()
    assert ring.peek_cqe() is None
    theirs.send(b"data")
    assert by_operation(ring) == {receive: 4}


def test_a_send_larger_than_the_socket_takes(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    content = os.urandom(4 << 20)
    send = ring.prepare(SendAll(ours.fileno(), content, 0))
    ring.submit()
    assert ring.peek_cqe() is None
    received = bytearray()
    reader = threading.Thread(target=lambda: received.extend(theirs.recv(len(content), socket.MSG_WAITALL)))
    reader.start()
    assert by_operation(ring) == {send: len(content)}
    reader.join()
    assert received == content


def test_a_broken_connection(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """An errno, and no SIGPIPE."""
    ours, theirs = pair
    theirs.close()
    with pytest.raises(BrokenPipeError):
        ring.run(SendAll(ours.fileno(), b"data", 0))


# Signals


def test_a_storm_of_signals(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """Every handler runs, and nothing that is waited for is lost."""
    ours, theirs = pair
    caught: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(200):
            receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
            ring.submit()
            if number % 10 == 0:
                with pytest.raises(TimeoutError):
                    ring.wait_cqe(2_000_000)
            theirs.send(b"data")
            assert by_operation(ring) == {receive: 4}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught


def test_a_timeout_is_not_prolonged_by_signals(ring: Ring) -> None:
    """Each interruption shortens what is left, so the wait ends however many there are."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        with pytest.raises(TimeoutError):
            ring.wait_cqe(20_000_000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Threads and processes


def test_a_ring_of_a_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    """Its ring is closed in it."""
    seen: list[int] = []

    def use() -> None:
        with Ring(8) as ring:
            receive = ring.prepare(ReceiveInto(pair[0].fileno(), bytearray(4), _never))
            ring.submit()
            ring.cancel(receive)
            seen.extend(completion.res for completion in ring.completions())

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [-errno.ECANCELED]


def test_fork_with_work_in_flight(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """The child neither keeps the parent's operations alive nor hears of them; it may have a ring of its own."""
    ours, theirs = pair
    receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
    ring.submit()
    child = os.fork()
    if child == 0:
        try:
            with Ring(8, backend=ring.backend) as own:
                assert own.run(Nop()) == 0
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    theirs.send(b"data")
    assert by_operation(ring) == {receive: 4}


def test_a_child_that_outlives_the_ring() -> None:
    """Closing the ring in the parent ends its operations, although a forked child is still there."""
    output = script(
        """
        import os, signal, socket
        from uringloop.operations import ReceiveInto
        from uringloop.ring import Ring
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        ring = Ring(8)
        ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), print))
        ring.submit()
        child = os.fork()
        if child == 0:
            ours.close()
            os.read(read_end, 1)
            os._exit(0)
        ring.close()
        ours.close()
        theirs.settimeout(10)
        print(theirs.recv(1))
        os.write(write_end, b"x")
        print(os.waitpid(child, 0)[1])
        theirs.close()
        """
    )
    assert output == "b''\n0\n"


# The end of a ring


def test_teardown_with_everything_in_flight(tmp_path: Path) -> None:
    """Receives, polls, timeouts, reads that run, an open and an accept: all end, and what they made is closed."""
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    for options in ({}, {"shared": True}, {"sq_poll": SqPoll(1)}):
        ours, theirs = socket.socketpair()
        with socket.create_server(("127.0.0.1", 0)) as listener, ours, theirs, path.open("r+b") as file:
            peer = socket.create_connection(listener.getsockname())
            with Ring(64, **options) as ring:  # type: ignore[arg-type]
                ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
                ring.prepare(Ready(ours.fileno(), select.POLLIN))
                ring.prepare(Timeout(3600_000_000_000))
                ring.prepare(Accept(listener.fileno()))
                for number in range(10):
                    ring.prepare(Read(file.fileno(), bytearray(100_000), number * 100_000))
                    ring.prepare(Write(file.fileno(), bytes(1000), number * 1000))
                ring.prepare(Open(os.devnull, os.O_RDONLY))
                ring.submit()
            peer.close()


def test_closing_before_a_zero_copy_send_was_read(pair: tuple[socket.socket, socket.socket]) -> None:
    """Its notification comes when the receiver has read, which may be never: `close` does not wait for that."""
    content = bytearray(b"zero-copied bytes")
    with Ring(8) as ring:
        pin = Pin(content)
        sqe = ring.get_sqe()
        sqe.hold(pin)
        sqe.prep(Opcode.SEND_ZC, pair[0].fileno(), pin.address, pin.size_bytes)
        completion = ring.wait_cqe()
        if completion.res == -errno.EOPNOTSUPP:
            pytest.skip("no zero-copy sends to unix sockets here")
        was_pending = ring.in_flight == 1
    assert pair[1].recv(100) == content
    if was_pending:
        with pytest.raises(BufferError):
            content.extend(b"the kernel may still read it")


def test_closing_with_a_drained_operation() -> None:
    """It waits for what is before it, and so does every SQE behind it, cancels among them."""
    ours, theirs = socket.socketpair()
    with ours, theirs, Ring(8) as ring:
        ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
        ring.get_sqe().prep(Opcode.NOP, -1, flags=SqeFlag.IO_DRAIN)
        ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
        ring.submit()
        assert ring.in_flight == 3


def test_closing_twice_and_in_the_middle(pair: tuple[socket.socket, socket.socket]) -> None:
    """Out of an iteration of its own completions."""
    ring = Ring(8)
    ring.prepare(ReceiveInto(pair[0].fileno(), bytearray(4), _never))
    ring.prepare(Nop())
    completions = ring.completions()
    next(completions)
    ring.close()
    with pytest.raises(ValueError, match="closed ring"):
        next(completions)
    ring.close()
