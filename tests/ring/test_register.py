"""What is registered with a ring: each call works on the real kernel, or fails as its man page says."""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import needs
from uringloop.operations import MessageRing, Nop, Read, ReceiveInto, Write
from uringloop.ring import (
    FILES_SKIP,
    NO_FILE,
    CancelFlag,
    Opcode,
    Pin,
    Register,
    Ring,
    SqeFlag,
    SqPoll,
    allocate,
    message_user_data,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"0123456789")
    yield fd
    os.close(fd)


def transfer(ring: Ring, opcode: Opcode, fd: int, memory: object, index: int, *, flags: int = 0) -> int:
    """A read or write of a whole buffer at the start of a file, fixed or not."""
    pin = Pin(memory)
    sqe = ring.get_sqe()
    sqe.hold(pin)
    sqe.prep(opcode, fd, pin.address, pin.size_bytes, buf_index=index, flags=flags)
    return ring.wait_cqe().res


# Buffers


@needs("registered buffers")
def test_registered_buffers(ring: Ring, file: int) -> None:
    memory = [allocate(4096), bytearray(10)]
    buffers = ring.register_buffers(memory)
    assert len(buffers) == 2
    assert buffers[1] is memory[1]
    assert transfer(ring, Opcode.READ_FIXED, file, memory[0], 0) == 10
    assert transfer(ring, Opcode.READ_FIXED, file, memory[1], 1) == 10
    assert (memory[0][:10], memory[1]) == (b"0123456789", b"0123456789")
    memory[1][:] = b"ABCDEFGHIJ"
    assert transfer(ring, Opcode.WRITE_FIXED, file, memory[1], 1) == 10
    assert os.pread(file, 10, 0) == b"ABCDEFGHIJ"
    buffers.unregister()
    assert transfer(ring, Opcode.READ_FIXED, file, memory[0], 0) == -errno.EFAULT


@needs("registered buffers")
def test_a_registered_buffer_cannot_move(ring: Ring) -> None:
    """Resizing it is refused while it is registered, because the kernel has its pages."""
    buffer = bytearray(4096)
    buffers = ring.register_buffers([buffer])
    with pytest.raises(BufferError):
        buffer.extend(b"more")
    buffers.update(0, [None])
    buffer.extend(b"more")


@needs("registered buffers")
def test_a_table_that_is_dropped_stays_registered_with_its_memory(ring: Ring) -> None:
    buffer = bytearray(4096)
    ring.register_buffers([buffer])
    with pytest.raises(BufferError):
        buffer.extend(b"more")


@needs("registered buffers")
def test_memory_outside_of_the_registered_buffer(ring: Ring, file: int) -> None:
    ring.register_buffers([bytearray(10)])
    assert transfer(ring, Opcode.READ_FIXED, file, bytearray(10), 0) == -errno.EFAULT
    assert transfer(ring, Opcode.READ_FIXED, file, bytearray(10), 7) == -errno.EFAULT


@needs("registered buffers")
def test_buffers_are_replaced_and_their_tags_told(ring: Ring, file: int) -> None:
    buffers = ring.register_buffers(3)
    assert buffers[2] is None
    first, second = bytearray(10), bytearray(10)
    buffers.update(1, [first], tags=[71])
    assert transfer(ring, Opcode.READ_FIXED, file, first, 1) == 10
    buffers.update(1, [second, bytearray(5)], tags=[72, 0])
    completion = ring.wait_cqe()
    assert (completion.number, completion.operation, completion.res) == (71, None, 0)
    assert completion.result() == 0
    assert transfer(ring, Opcode.READ_FIXED, file, second, 1) == 10
    buffers.update(1, [None, None])
    assert ring.wait_cqe().number == 72
    assert transfer(ring, Opcode.READ_FIXED, file, second, 1) == -errno.EFAULT


@needs("registered buffers")
def test_indexes_of_buffers_are_checked(ring: Ring) -> None:
    buffers = ring.register_buffers(2)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            buffers.update(index, [bytearray(1)])
        with pytest.raises(IndexError):
            buffers[index]
    with pytest.raises(IndexError):
        buffers.update(1, [bytearray(1), bytearray(1)])
    with pytest.raises(ValueError, match="as many tags"):
        buffers.update(1, [bytearray(1)], tags=[1, 2])
    with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
        ring.register_buffers(2)
    with pytest.raises((TypeError, BufferError)):
        buffers.update(0, [b"read-only"])


# Files


@needs("registered files")
def test_registered_files(ring: Ring, file: int) -> None:
    copy = os.dup(file)
    files = ring.register_files([copy, NO_FILE])
    # The kernel has its own reference.
    os.close(copy)
    buffer = bytearray(10)
    assert transfer(ring, Opcode.READ, 0, buffer, 0, flags=SqeFlag.FIXED_FILE) == 10
    assert transfer(ring, Opcode.READ, 1, buffer, 0, flags=SqeFlag.FIXED_FILE) == -errno.EBADF
    files.update(0, [FILES_SKIP, file])
    assert transfer(ring, Opcode.READ, 1, buffer, 0, flags=SqeFlag.FIXED_FILE) == 10
    files.update(0, [NO_FILE])
    assert transfer(ring, Opcode.READ, 0, buffer, 0, flags=SqeFlag.FIXED_FILE) == -errno.EBADF
    files.unregister()
    assert transfer(ring, Opcode.READ, 1, buffer, 0, flags=SqeFlag.FIXED_FILE) == -errno.EBADF


@needs("registered files")
def test_direct_descriptors(ring: Ring, tmp_path: Path) -> None:
    """The kernel opens into the table, where there is room, and no descriptor of the process is used."""
    files = ring.register_files(4)
    files.set_allocation_range(2, 2)
    path = Pin(os.fsencode(tmp_path / "file") + b"\0")
    for expected in (2, 3, -errno.ENFILE):
        sqe = ring.get_sqe()
        sqe.hold(path)
        flags = os.O_RDWR | os.O_CREAT
        sqe.prep(Opcode.OPENAT, -100, path.address, 0o600, op_flags=flags, file_index=-1)
        assert ring.wait_cqe().res == expected
    assert transfer(ring, Opcode.WRITE, 2, b"direct", 0, flags=SqeFlag.FIXED_FILE) == 6
    # A place is closed by its number plus one.
    ring.get_sqe().prep(Opcode.CLOSE, 0, file_index=2 + 1)
    assert ring.wait_cqe().res == 0
    assert (tmp_path / "file").read_bytes() == b"direct"
    with pytest.raises(IndexError):
        files.set_allocation_range(3, 2)


@needs("tags of files")
def test_tags_of_files(ring: Ring, file: int) -> None:
    files = ring.register_files([file, file], tags=[5, 0])
    files.update(0, [file, NO_FILE], tags=[6, 0])
    assert ring.wait_cqe().number == 5
    files.unregister()
    assert ring.wait_cqe().number == 6
    assert ring.in_flight == 0


# Waking


def test_eventfd(ring: Ring) -> None:
    eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        ring.register_eventfd(eventfd)
        ring.run(Nop())
        assert os.eventfd_read(eventfd) > 0
        ring.pause_eventfd()
        ring.run(Nop())
        with pytest.raises(BlockingIOError):
            os.eventfd_read(eventfd)
        ring.pause_eventfd(False)
        ring.run(Nop())
        assert os.eventfd_read(eventfd) > 0
        ring.unregister_eventfd()
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
            ring.unregister_eventfd()
    finally:
        os.close(eventfd)


def test_eventfd_only_for_what_completes_later(file: int) -> None:
    eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        with Ring(8, without=frozenset({"defer_taskrun"})) as ring:
            ring.register_eventfd(eventfd, only_async=True)
            ring.run(Nop())
            with pytest.raises(BlockingIOError):
                os.eventfd_read(eventfd)
            ring.get_sqe().prep(Opcode.FSYNC, file)
            ring.wait_cqe()
            assert os.eventfd_read(eventfd) > 0
    finally:
        os.close(eventfd)


@needs("busy polling", "clocks")
def test_busy_polling_and_clock(ring: Ring) -> None:
    """Both change how a wait waits, which goes on to work."""
    ring.register_napi(50)
    ring.register_clock(time.CLOCK_BOOTTIME)
    with pytest.raises(TimeoutError):
        ring.wait_cqe(1_000_000)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        ring.register_clock(time.CLOCK_REALTIME)
    ring.unregister_napi()


# Who may do what


@needs("personalities")
def test_personality(ring: Ring, file: int) -> None:
    personality = ring.register_personality()
    sqe = ring.get_sqe()
    sqe.prep(Opcode.NOP, -1, personality=personality)
    assert ring.wait_cqe().res == 0
    ring.unregister_personality(personality)
    ring.get_sqe().prep(Opcode.NOP, -1, personality=personality)
    assert ring.wait_cqe().res == -errno.EINVAL
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        ring.unregister_personality(personality)


def test_restrictions(file: int) -> None:
    with Ring(8, enable=False) as ring:
        ring.restrict([Opcode.NOP, Opcode.READ], [Register.ENABLE_RINGS], flags_allowed=SqeFlag.IO_LINK)
        ring.enable()
        assert ring.run(Nop()) == 0
        with pytest.raises(OSError, match=os.strerror(errno.EACCES)):
            ring.run(Write(file, b"x"))
        ring.get_sqe().prep(Opcode.NOP, -1, flags=SqeFlag.ASYNC)
        assert ring.wait_cqe().res == -errno.EACCES
        with pytest.raises(OSError, match=os.strerror(errno.EACCES)):
            ring.register_personality()


def test_required_flags() -> None:
    with Ring(8, enable=False) as ring:
        ring.restrict([Opcode.NOP], [Register.ENABLE_RINGS], flags_required=SqeFlag.ASYNC)
        ring.enable()
        ring.get_sqe().prep(Opcode.NOP, -1)
        assert ring.wait_cqe().res == -errno.EACCES
        ring.get_sqe().prep(Opcode.NOP, -1, flags=SqeFlag.ASYNC)
        assert ring.wait_cqe().res == 0


@needs("restrictions")
def test_restrictions_come_before_enabling(ring: Ring) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EBADFD)):
        ring.restrict([Opcode.NOP])


# Workers


@needs("worker limits")
def test_worker_limits(ring: Ring) -> None:
    before = ring.set_worker_limits(3, 5)
    assert min(before) > 0
    assert ring.set_worker_limits(0, 0) == (3, 5)
    ring.set_worker_limits(*before)


@needs("worker limits")
def test_worker_affinity(ring: Ring, file: int) -> None:
    ring.register_worker_affinity({0})
    ring.get_sqe().prep(Opcode.FSYNC, file, flags=SqeFlag.ASYNC)
    assert ring.wait_cqe().res == 0
    ring.unregister_worker_affinity()
    for cpus in ((), (-1,), (1 << 20,)):
        with pytest.raises(ValueError, match="CPU"):
            ring.register_worker_affinity(cpus)


# The rest


@needs("a registered ring")
def test_ring_fd(ring: Ring) -> None:
    ring.register_ring_fd()
    ring.register_ring_fd()
    assert ring.run(Nop()) == 0
    ring.unregister_ring_fd()
    assert ring.run(Nop()) == 0
    with Ring(8, shared=True) as shared, pytest.raises(RuntimeError, match="not bound to one thread"):
        shared.register_ring_fd()


def test_ring_fd_is_given_back_at_the_end() -> None:
    """A thread's table has sixteen places."""
    for _ in range(40):
        with Ring(8) as ring:
            ring.register_ring_fd()
            assert ring.run(Nop()) == 0


def test_cancel_now(ring: Ring) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receives = [ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never)) for _ in range(3)]
        ring.submit()
        ring.cancel_now(receives[0].token, timeout_ns=10_000_000_000)
        assert ring.wait_cqe().operation is receives[0]
        ring.cancel_now(fd=ours.fileno(), flags=CancelFlag.FD | CancelFlag.ALL)
        assert {completion.res for completion in ring.completions()} == {-errno.ECANCELED}
        with pytest.raises(FileNotFoundError):
            ring.cancel_now(receives[0].token)


def _never(data: bytes) -> None:
    raise AssertionError(f"{data!r} was kept")


@needs("resizing")
def test_resize(ring: Ring) -> None:
    staged = [ring.prepare(Nop()) for _ in range(3)]
    ring.resize(64, 128)
    assert ring.entries == (64, 128)
    more = [ring.prepare(Nop()) for _ in range(60)]
    assert ring.submit(wait_for=63) == 60
    assert [completion.operation for completion in ring.completions()] == staged + more
    ring.resize(4, 4)
    assert ring.entries == (4, 4)
    for _ in range(20):
        ring.prepare(Nop())
    assert len(list(ring.completions())) == 20
    with pytest.raises(ValueError, match="at least one entry"):
        ring.resize(0, 1)


@needs("resizing")
def test_a_ring_that_cannot_be_resized() -> None:
    with Ring(8, sq_poll=SqPoll(1)) as ring, pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        ring.resize(16, 32)


# Messages


@needs("messages without a ring")
def test_messages_from_a_thread_without_a_ring(ring: Ring) -> None:
    thread = threading.Thread(target=lambda: [ring.post(number, number + 1) for number in range(1, 4)])
    thread.start()
    # Nothing is in flight: it waits for messages alone.
    seen = [ring.wait_cqe() for _ in range(3)]
    thread.join()
    assert [(completion.number, completion.result(), completion.operation) for completion in seen] == [
        (1, 2, None),
        (2, 3, None),
        (3, 4, None),
    ]
    assert ring.in_flight == 0


@needs(MessageRing)
def test_messages_between_rings(ring: Ring) -> None:
    with Ring(8) as other:
        largest = (1 << 60) - 1
        ring.get_sqe().prep(Opcode.MSG_RING, other.fd, 0, 7, message_user_data(largest))
        assert ring.wait_cqe().res == 0
        message = other.wait_cqe()
        assert (message.number, message.res) == (largest, 7)
    with pytest.raises(ValueError, match="60 bits"):
        message_user_data(1 << 60)


@needs(MessageRing)
def test_a_message_is_no_operation_in_flight(ring: Ring) -> None:
    """Whatever user_data another ring sends: an operation is not taken for completed."""
    ours, theirs = socket.socketpair()
    with Ring(8) as other, ours, theirs:
        receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
        ring.submit()
        other.get_sqe().prep(Opcode.MSG_RING, ring.fd, 0, 7, message_user_data(receive.token >> 4))
        other.wait_cqe()
        assert ring.wait_cqe().operation is None
        assert ring.in_flight == 1
        theirs.send(b"data")
        assert ring.wait_cqe().operation is receive


def test_a_message_to_a_closed_ring_is_refused() -> None:
    with Ring(8) as ring:
        pass
    with pytest.raises(ValueError, match="closed ring"):
        ring.post(1)


@needs("registered buffers")
def test_a_read_that_is_fixed_and_not(ring: Ring, file: int) -> None:
    buffer = bytearray(10)
    ring.register_buffers([buffer])
    assert ring.run(Read(file, buffer, offset=0)) == 10
