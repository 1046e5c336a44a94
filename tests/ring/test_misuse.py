"""Each way to use a ring wrongly is an exception that says what is wrong: never a crash, never a hang."""

import errno
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.children import python
from uringloop.operations import Nop, Read, ReadVector, Ready, ReceiveInto
from uringloop.ring import LoopRing, Opcode, Pin, Ring, Sqe, SqeFlag, SqPoll

USES: dict[str, Callable[[Ring], object]] = {
    "get_sqe": lambda ring: ring.get_sqe(),
    "prepare": lambda ring: ring.prepare(Nop()),
    "submit": lambda ring: ring.submit(),
    "submit and wait": lambda ring: ring.submit(wait_for=1),
    "peek_cqe": lambda ring: ring.peek_cqe(),
    "wait_cqe": lambda ring: ring.wait_cqe(),
    "completions": lambda ring: list(ring.completions()),
    "run": lambda ring: ring.run(Nop()),
    "run_many": lambda ring: ring.run_many([Nop()]),
    "iterate": lambda ring: list(ring.iterate(Ready(0, select.POLLIN))),
    "cancel": lambda ring: ring.cancel(Nop()),
    "register_buffers": lambda ring: ring.register_buffers(2),
    "register_files": lambda ring: ring.register_files(2),
    "open_group": lambda ring: ring.open_group(2, 2),
    "resize": lambda ring: ring.resize(4, 8),
    "register_ring_fd": lambda ring: ring.register_ring_fd(),
    "register_personality": lambda ring: ring.register_personality(),
    "cancel_now": lambda ring: ring.cancel_now(),
    "enable": lambda ring: ring.enable(),
}


@pytest.mark.parametrize("use", [*USES.values(), *(Ring.fd.fget, Ring.entries.fget, Ring.statistics)])  # type: ignore[attr-defined]
def test_after_close(use: Callable[[Ring], object]) -> None:
    with Ring(8) as ring:
        ring.run(Nop())
    with pytest.raises(ValueError, match="closed ring"):
        use(ring)
    ring.close()
    assert repr(ring) == "<Ring closed>"


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_in_another_thread(use: Callable[[Ring], object]) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            use(ring)
        except BaseException as error:
            caught.append(error)

    with Ring(8) as ring:
        ring.run(Nop())
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert [type(error) for error in caught] == [RuntimeError]
        assert "belongs to the thread" in str(caught[0])
        assert ring.run(Nop()) == 0


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_in_a_forked_child(use: Callable[[Ring], object]) -> None:
    with Ring(8) as ring:
        ring.prepare(Nop())
        ring.submit()
        child = os.fork()
        if child == 0:
            try:
                use(ring)
            except RuntimeError as error:
                os._exit(0 if "fork" in str(error) else 2)
            except BaseException:
                os._exit(3)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        # The parent is unharmed.
        assert ring.wait_cqe().result() == 0
        assert ring.run(Nop()) == 0


def test_closing_in_a_forked_child_and_in_another_thread() -> None:
    """Neither needs the ring's thread; what is in flight then keeps its memory for good."""
    ours, theirs = socket.socketpair()
    buffer = bytearray(4)
    with ours, theirs:
        ring = Ring(8)
        ring.prepare(ReceiveInto(ours.fileno(), buffer, _never))
        ring.submit()
        child = os.fork()
        if child == 0:
            ring.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread = threading.Thread(target=ring.close)
        thread.start()
        thread.join()
        assert ring.closed
        with pytest.raises(BufferError):
            buffer.extend(b"it may be written to")


def _never(data: bytes) -> None:
    raise AssertionError(f"{data!r} was kept")


def test_a_ring_that_several_threads_share() -> None:
    """One after the other they may."""
    results: list[int] = []
    with Ring(8, shared=True) as ring:
        for _ in range(3):
            thread = threading.Thread(target=lambda: results.append(ring.run(Nop())))
            thread.start()
            thread.join()
        assert results == [0, 0, 0]


def test_before_it_is_enabled() -> None:
    with Ring(8, enable=False) as ring:
        for _ in range(8):
            ring.prepare(Nop())
        for use in (ring.submit, ring.wait_cqe, ring.get_sqe):
            with pytest.raises(RuntimeError, match="not enabled yet"):
                use()
        ring.enable()
        assert len(list(ring.completions())) == 8
        with pytest.raises(OSError, match=os.strerror(errno.EBADFD)):
            ring.enable()


def test_an_sqe_after_it_was_submitted() -> None:
    """Its place may be another SQE's by then."""
    for options in ({}, {"sq_poll": SqPoll(1)}):
        with Ring(4, **options) as ring:  # type: ignore[arg-type]
            sqe = ring.get_sqe()
            sqe.prep_nop()
            sqe.flags = SqeFlag.ASYNC
            ring.submit()
            for use in (Sqe.prep_nop, lambda sqe: sqe.flags, lambda sqe: setattr(sqe, "flags", 0)):
                with pytest.raises(RuntimeError, match="was submitted"):
                    use(sqe)
            assert ring.wait_cqe().operation is sqe
    with pytest.raises(RuntimeError, match="closed"):
        sqe.prep_nop()


def test_an_operation_that_is_in_flight(ring: Ring) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
        with pytest.raises(RuntimeError, match="in flight already"):
            ring.prepare(receive)
        theirs.send(b"data")
        assert ring.wait_cqe().result() == 4
        assert ring.in_flight == 0


def test_an_operation_that_is_in_flight_without_assertions() -> None:
    program = (
        "from uringloop.operations import Nop\n"
        "from uringloop.ring import Ring\n"
        "with Ring(8) as ring:\n"
        "    nop = ring.prepare(Nop())\n"
        "    try:\n"
        "        ring.prepare(nop)\n"
        "    except RuntimeError:\n"
        "        print('refused')\n"
    )
    assert python(["-O", "-c", program]).stdout == "refused\n"


def test_a_buffer_that_would_move(ring: Ring) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        buffer = bytearray(4)
        ring.prepare(ReceiveInto(ours.fileno(), buffer, _never))
        ring.submit()
        with pytest.raises(BufferError):
            buffer.extend(b"more")
        theirs.send(b"data")
        ring.wait_cqe()
        buffer.extend(b"more")


def test_a_transfer_that_has_released_its_buffer(ring: Ring, tmp_path: Path) -> None:
    """The kernel writes nothing to where the buffer was, since other objects may be there now."""
    path = tmp_path / "file"
    path.write_bytes(b"some")
    with path.open("rb") as file:
        buffer = bytearray(4)
        read, vector = Read(file.fileno(), buffer, 0), ReadVector(file.fileno(), [buffer], 0)
        assert ring.run_many([read, vector]) == [4, 4]
        for call in (ring.run, lambda operation: ring.run_many([operation])):
            with pytest.raises(ValueError, match="released its buffer"):
                call(read)
        buffer[:] = b"mine"
        assert ring.run(vector) == 0
        assert buffer == b"mine"


@pytest.mark.parametrize("buffer", [b"read-only", memoryview(b"read-only"), "text", 5, memoryview(bytearray(8))[::2]])
def test_what_is_no_buffer(buffer: object) -> None:
    with pytest.raises((TypeError, BufferError)):
        Pin(buffer, writable=True)


@pytest.mark.parametrize("number", [1 << 31, -(1 << 31) - 1, 1 << 70])
def test_numbers_that_do_not_fit(ring: Ring, number: int) -> None:
    with pytest.raises(OverflowError):
        ring.get_sqe().prep(Opcode.NOP, number)
    # What was staged does nothing.
    assert ring.wait_cqe().result() == 0


def test_an_unknown_opcode(ring: Ring) -> None:
    ring.get_sqe().prep(255, -1)
    assert ring.wait_cqe().res == -errno.EINVAL


def test_more_than_can_be_waited_for(ring: Ring) -> None:
    with pytest.raises(ValueError, match="cannot be waited for"):
        ring.submit(wait_for=17)


@pytest.mark.parametrize("arguments", [{"entries": 0}, {"cq_entries": 0}, {"without": frozenset({"nothing"})}])
def test_arguments_are_checked(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at least one entry|unknown features"):
        Ring(**arguments)  # type: ignore[arg-type]


def test_a_ring_has_one_driver() -> None:
    """A loop's dispatcher and a caller by hand would reap each other's completions."""
    assert not hasattr(LoopRing, "peek_cqe")
    assert not hasattr(Ring, "dispatcher")


def test_exit_without_cleanup() -> None:
    """The interpreter ends with rings open and work in flight: it ends."""
    program = """
import os, socket
from uringloop.operations import ReceiveInto
from uringloop.ring import Ring, SqPoll
pairs = [socket.socketpair() for _ in range(3)]
rings = [Ring(8), Ring(8, shared=True), Ring(8, sq_poll=SqPoll(1))]
for ring, (ours, theirs) in zip(rings, pairs):
    ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), print))
    ring.submit()
print("here")
"""
    finished = python(["-c", program])
    assert finished.stdout == "here\n"
    assert finished.returncode == 0


def test_closing_while_work_is_in_flight() -> None:
    """In each way of running: reads that wait, timeouts, and workers that are busy."""
    for options in ({}, {"shared": True}, {"sq_poll": SqPoll(1)}):
        ours, theirs = socket.socketpair()
        with ours, theirs, Ring(8, **options) as ring:  # type: ignore[arg-type]
            for _ in range(20):
                ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
            for _ in range(5):
                ring.get_sqe().prep(Opcode.FSYNC, sys.__stdin__.fileno() if sys.__stdin__ else 0, flags=SqeFlag.ASYNC)
            ring.submit()
