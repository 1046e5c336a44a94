"""Preparing, submitting, waiting, iterating; in each of the ways in which a ring can be driven."""

import errno
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import needs
from uringloop.operations import LinkTimeout, Nop, Open, Read, ReceiveInto, TimeoutUpdate, Write
from uringloop.ring import CqeFlag, Opcode, Pin, Ring, RingUnavailableError, SqeFlag, SqPoll

WAYS: dict[str, dict[str, Any]] = {
    "interrupt-driven": {},
    "shared": {"shared": True},
    "without deferred task work": {"without": frozenset({"defer_taskrun"})},
    "polled submissions": {"sq_poll": SqPoll(idle_ms=1)},
    "polled submissions on CPU 0": {"sq_poll": SqPoll(idle_ms=1, cpu=0)},
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def any_ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with Ring(8, cq_entries=16, **request.param) as ring:
        yield ring


def test_the_same_program_in_each_way(any_ring: Ring, tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = any_ring.run(Open(str(path), os.O_RDWR | os.O_CREAT))
    parts = [bytes([number]) * 1000 for number in range(40)]
    for number, part in enumerate(parts):
        any_ring.prepare(Write(fd, part, offset=number * 1000))
    assert [completion.result() for completion in any_ring.completions()] == [1000] * 40
    buffers = [bytearray(1000) for _ in parts]
    for number, buffer in enumerate(buffers):
        any_ring.prepare(Read(fd, buffer, offset=number * 1000))
    assert sum(completion.result() for completion in any_ring.completions()) == 40_000
    assert buffers == parts
    os.close(fd)
    assert path.read_bytes() == b"".join(parts)
    statistics = any_ring.statistics()
    assert (statistics["submitted"], statistics["completed"], statistics["in_flight"]) == (81, 81, 0)


def test_io_poll(tmp_path: Path) -> None:
    """A device without polled queues, or a file system that does not poll, refuses the read, and nothing else."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 16)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("a file system without O_DIRECT")

    buffer = mmap.mmap(-1, 4096)
    with Ring(8, io_poll=True) as ring:
        ring.prepare(Read(fd, buffer, offset=0))
        completion = ring.wait_cqe()
        assert completion.res in (4096, -errno.EOPNOTSUPP, -errno.EAGAIN)
        assert completion.res < 0 or buffer[:256] == bytes(range(256))
        assert ring.run(Nop()) == 0
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            # What cannot be polled is refused.
            ring.run(Open(str(path), os.O_RDONLY))
    os.close(fd)
    buffer.close()


def test_sq_polling_falls_asleep_and_is_woken() -> None:
    with Ring(8, sq_poll=SqPoll(idle_ms=1)) as ring:
        for _ in range(5):
            assert ring.run(Nop()) == 0
            # It sleeps when it has nothing to do for a millisecond; nobody tells when.
            time.sleep(0.003)
    assert ring.closed


@needs("shared workers")
def test_workers_are_shared(ring: Ring) -> None:
    with Ring(8, attach=ring) as attached:
        assert attached.run(Nop()) == 0
        assert attached.features.setup & ring.features.setup


def test_sizes_are_rounded_and_clamped() -> None:
    with Ring(5, cq_entries=17) as ring:
        assert ring.entries == (8, 32)
    with Ring(1 << 20, cq_entries=1 << 21) as ring:
        assert ring.entries == (32768, 65536)


def test_a_full_queue_is_submitted(ring: Ring) -> None:
    for _ in range(20):
        ring.prepare(Nop())
    assert ring.statistics()["submitted"] == 16
    assert ring.submit(wait_for=16) == 4
    assert len(list(ring.completions())) == 20


def test_more_completions_than_the_queue_holds(ring: Ring) -> None:
    """They overflow into the kernel's own list, and nothing is lost."""
    for _ in range(100):
        ring.prepare(Nop())
    ring.submit()
    tokens = [completion.user_data for completion in ring.completions()]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) == 100
    assert ring.statistics()["overflows"] > 0


def test_waiting_with_a_timeout(ring: Ring) -> None:
    with pytest.raises(TimeoutError):
        ring.wait_cqe(timeout_ns=1_000_000)
    ring.prepare(Nop())
    assert ring.submit(wait_for=2, timeout_ns=1_000_000) == 1
    assert ring.wait_cqe().result() == 0
    assert ring.peek_cqe() is None


def test_a_timeout_between_completions(ring: Ring) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
        completions = ring.completions(timeout_ns=1_000_000)
        with pytest.raises(TimeoutError):
            next(completions)
        theirs.send(b"data")
        assert [(completion.operation, completion.result()) for completion in ring.completions()] == [(receive, 4)]


def _never(data: bytes) -> None:
    raise AssertionError(f"{data!r} was kept")


def test_running_one_leaves_the_others(ring: Ring) -> None:
    first = ring.prepare(Nop())
    assert ring.run(Nop()) == 0
    last = ring.prepare(Nop())
    assert ring.in_flight == 1
    assert [completion.operation for completion in ring.completions()] == [first, last]


def test_an_error_is_the_operations(ring: Ring) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ring.run(Open("/missing", os.O_RDONLY))
    assert caught.value.filename == "/missing"


def test_an_operation_may_be_prepared_again(ring: Ring) -> None:
    operation = Nop()
    for _ in range(3):
        assert ring.run(operation) == 0


def test_cancel(ring: Ring) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
        ring.submit()
        ring.cancel(receive)
        completion = ring.wait_cqe()
        assert (completion.operation, completion.res) == (receive, -errno.ECANCELED)
        with pytest.raises(OSError, match=os.strerror(errno.ECANCELED)):
            completion.result()


# By hand


def test_a_link_timeout_gets_a_new_time(ring: Ring) -> None:
    receiver, sender = socket.socketpair()
    with receiver, sender:
        receive = ReceiveInto(receiver.fileno(), bytearray(1))
        receive.modifiers |= SqeFlag.IO_LINK
        timeout = LinkTimeout(3600 * 10**9)
        ring.prepare(receive)
        ring.prepare(timeout)
        ring.run(TimeoutUpdate(timeout, 1000))
        results = {completion.operation: completion.res for completion in ring.completions()}
    assert results == {receive: -errno.ECANCELED, timeout: 1}


def test_fields_by_hand(ring: Ring, tmp_path: Path) -> None:
    file = (tmp_path / "file").open("w+b", buffering=0)
    with file:
        sqe = ring.get_sqe()
        sqe.data = "anything"
        sqe.prep_writev(file.fileno(), [b"one ", bytearray(b"two")], 0)
        completion = ring.wait_cqe()
        assert (completion.operation, completion.result()) == (sqe, 7)
        assert completion.operation.data == "anything"
        buffer = bytearray(3)
        ring.get_sqe().prep_readv(file.fileno(), [buffer], 4)
        assert ring.wait_cqe().result() == 3
        assert buffer == b"two"
        ring.get_sqe().prep_write(file.fileno(), b"END", -1)
        assert ring.wait_cqe().result() == 3
        ring.get_sqe().prep_read(file.fileno(), buffer, 0)
        assert ring.wait_cqe().result() == 3
        assert buffer == b"END"
        assert ring.get_sqe().prep(Opcode.FSYNC, file.fileno()) == ring.wait_cqe().user_data


def test_one_that_was_not_prepared_does_nothing(ring: Ring) -> None:
    ring.get_sqe()
    assert ring.wait_cqe().res == 0


def test_flags_by_hand(ring: Ring) -> None:
    """A chain whose first part is silent: only the second completes."""
    first, second = ring.get_sqe(), ring.get_sqe()
    first.prep_nop()
    first.flags = SqeFlag.IO_LINK | SqeFlag.CQE_SKIP_SUCCESS
    second.prep(Opcode.NOP, -1, flags=SqeFlag.ASYNC)
    assert first.flags & SqeFlag.IO_LINK
    assert ring.in_flight == 1
    assert [completion.operation for completion in ring.completions()] == [second]


def test_an_error_by_hand(ring: Ring) -> None:
    ring.get_sqe().prep_read(1 << 20, bytearray(1), 0)
    completion = ring.wait_cqe()
    assert completion.res == -errno.EBADF
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        completion.result()


def test_a_completion_says_what_it_is(ring: Ring) -> None:
    ring.prepare(Nop())
    completion = ring.wait_cqe()
    assert (completion.more, completion.number, completion.buffer_id) == (False, None, None)
    assert not completion.flags & CqeFlag.MORE
    assert "Nop" in repr(completion)


# Signals


def test_a_signal_runs_its_handler_and_the_wait_goes_on(ring: Ring) -> None:
    ours, theirs = socket.socketpair()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: theirs.send(b"data"))
    main = threading.get_ident()
    interrupter = threading.Thread(target=signal.pthread_kill, args=(main, signal.SIGUSR1))
    with ours, theirs:
        try:
            ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
            ring.submit()
            interrupter.start()
            assert ring.wait_cqe().result() == 4
        finally:
            interrupter.join()
            signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_raises_ends_the_wait(ring: Ring) -> None:
    def handler(number: int, frame: object) -> None:
        raise KeyError("from the handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(KeyError):
            ring.wait_cqe()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ring.run(Nop()) == 0


def test_a_blocked_signal_does_not_end_the_wait(ring: Ring) -> None:
    """The signal is pending when the wait starts, and its handler runs only after it."""
    ran: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: ran.append(number))
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        with pytest.raises(TimeoutError):
            ring.wait_cqe(1_000_000, signal_mask=[signal.SIGUSR1])
        assert ran == []
        with pytest.raises(TimeoutError):
            # This one unblocks it while waiting.
            ring.wait_cqe(1_000_000, signal_mask=[])
        assert ran == [signal.SIGUSR1]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR1, before)


# The end


def test_closing_cancels_and_waits() -> None:
    """The memory of what is in flight is free when `close` returns."""
    ours, theirs = socket.socketpair()
    buffer = bytearray(4)
    with ours, theirs:
        with Ring(8) as ring:
            receive = ring.prepare(ReceiveInto(ours.fileno(), buffer, _never))
            ring.submit()
        assert not receive.in_flight
        buffer.extend(b"it may be resized")


def test_closing_does_not_submit_what_is_staged(tmp_path: Path) -> None:
    with Ring(8) as ring:
        open_file = ring.prepare(Open(str(tmp_path / "file"), os.O_WRONLY | os.O_CREAT))
    assert not (tmp_path / "file").exists()
    assert not open_file.in_flight


def test_closing_disposes_of_what_nobody_saw(tmp_path: Path) -> None:
    """A descriptor that was opened is closed (a fixture looks)."""
    with Ring(8) as ring:
        ring.prepare(Open(os.devnull, os.O_RDONLY))
        ring.submit(wait_for=1)


def test_a_ring_that_is_dropped_warns() -> None:
    ring = Ring(8)
    ring.prepare(Nop())
    with pytest.warns(ResourceWarning, match="unclosed <Ring fd="):
        del ring


def test_a_pin_outlives_its_object(ring: Ring) -> None:
    """The completion, not the caller's names, decides how long memory stays."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sqe = ring.get_sqe()
        pin = Pin(bytearray(4), writable=True)
        sqe.hold(pin)
        sqe.prep(Opcode.RECV, ours.fileno(), pin.address, pin.size_bytes)
        del pin, sqe
        ring.submit()
        theirs.send(b"data")
        assert ring.wait_cqe().result() == 4


def test_a_kernel_without_these_flags() -> None:
    with pytest.raises(RingUnavailableError):
        Ring(8, sq_poll=SqPoll(cpu=100_000))
