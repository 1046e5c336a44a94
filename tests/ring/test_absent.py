"""Parts of io_uring that the backend epoll does not have: each is refused by name, and no call of io_uring is made."""

import asyncio
import errno
import time
from collections.abc import Callable
from typing import Any

import pytest

import uringloop
from tests.absent import ABSENT_OPERATIONS
from tests.children import script
from uringloop.operations import FutexWake, MessageRing, Nop, Read, ReadFixed, SendZeroCopy, Slot
from uringloop.ring import Opcode, Ring, SqPoll, allocate

KINDS: dict[str, tuple[Callable[[Ring], Any], str]] = {
    "io_poll": (lambda ring: Ring(io_poll=True, backend="epoll"), "polling of devices"),
    "sq_poll": (lambda ring: Ring(sq_poll=SqPoll(), backend="epoll"), "thread that submits"),
    "attach": (lambda ring: Ring(attach=ring, backend="epoll"), "kernel workers to share"),
}
REGISTERED: dict[str, tuple[Callable[[Ring], Any], str]] = {
    "buffers": (lambda ring: ring.register_buffers([allocate(4096)]), "registered buffers"),
    "places for buffers": (lambda ring: ring.register_buffers(2), "registered buffers"),
    "files": (lambda ring: ring.register_files([0]), "registered files"),
    "a personality": (lambda ring: ring.register_personality(), "personalities"),
    "no personality": (lambda ring: ring.unregister_personality(1), "personalities"),
    "limits of workers": (lambda ring: ring.set_worker_limits(1, 1), "kernel workers"),
    "CPUs of workers": (lambda ring: ring.register_worker_affinity([0]), "kernel workers"),
    "busy polling": (lambda ring: ring.register_napi(50), "busy polling"),
    "a clock": (lambda ring: ring.register_clock(time.CLOCK_BOOTTIME), "choice of a clock"),
    "restrictions": (lambda ring: ring.restrict([Opcode.NOP]), "restrictions"),
    "other sizes": (lambda ring: ring.resize(16, 32), "queues that change their size"),
    "a message": (lambda ring: ring.post(1), "messages between rings"),
}
REFUSED = {**KINDS, **REGISTERED}


@pytest.mark.parametrize("name", REFUSED)
def test_a_part_that_is_registered_or_set_up(name: str) -> None:
    use, what = REFUSED[name]
    with Ring(8, backend="epoll") as ring:
        with pytest.raises(OSError, match=rf"Invalid argument: the backend epoll has no {what}") as refused:
            use(ring)
        assert refused.value.errno == errno.EINVAL
        assert not isinstance(refused.value, uringloop.RingUnavailableError)
        assert ring.run(Nop()) == 0


def test_no_call_of_io_uring_is_made() -> None:
    """Any would kill the process: a message, say, has a call of its own."""
    answer = script("""
        from tests.refused import seccomp
        from tests.ring.test_absent import REFUSED
        from uringloop.ring import Ring
        seccomp.kill()
        with Ring(8, backend="epoll") as ring:
            for use, _ in REFUSED.values():
                try:
                    use(ring)
                except OSError:
                    pass
                else:
                    raise AssertionError
        print("refused")
    """)
    assert answer == "refused\n"


def test_every_other_operation_is_there() -> None:
    with Ring(8, backend="epoll") as ring:
        assert {op.name for op in Opcode} - {op.name for op in ring.features.opcodes} == set(ABSENT_OPERATIONS)
        assert ring.features.backend == "epoll"


@pytest.mark.parametrize("name", ABSENT_OPERATIONS)
def test_an_operation_by_hand(name: str) -> None:
    with Ring(8, backend="epoll") as ring:
        ring.get_sqe().prep(Opcode[name], 0)
        completion = ring.wait_cqe()
        assert completion.res == -errno.EINVAL
        with pytest.raises(OSError, match=f"the backend epoll has no operation {name}$"):
            completion.result()


def test_an_operation_of_another_error_is_not_said_to_be_absent() -> None:
    with Ring(8, backend="epoll") as ring:
        ring.get_sqe().prep(Opcode.ASYNC_CANCEL, 0, op_flags=1 << 31)
        with pytest.raises(OSError, match=rf"^\[Errno {errno.EINVAL}\] Invalid argument$"):
            ring.wait_cqe().result()


OPERATIONS: dict[str, Callable[[], Any]] = {
    "FUTEX_WAKE": lambda: FutexWake(bytearray(4)),
    "SEND_ZC": lambda: SendZeroCopy(0, b"data"),
    "READ_FIXED": lambda: ReadFixed(0, bytearray(4), 0),
    "MSG_RING": lambda: MessageRing(0, 1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_on_a_loop(name: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for run in (loop.submit(OPERATIONS[name]()), loop.submit_many([OPERATIONS[name]()])):
            with pytest.raises(
                OSError, match=f"Invalid argument: the backend epoll has no operation {name}$"
            ) as refused:
                await run
            assert refused.value.errno == errno.EINVAL

    uringloop.run(main(), backend="epoll")


def test_an_operation_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with Ring(8, backend="epoll") as ring:
        features = ring.features
    assert features.absence(Opcode.NOP) is None
    assert features.absence(200) == "the backend epoll has no operation 200"


def test_a_slot_is_no_file() -> None:
    with Ring(8, backend="epoll") as ring, pytest.raises(OSError, match="Bad file descriptor"):
        ring.run(Read(Slot(0), bytearray(4)))


def test_a_ring_of_io_uring_shares_no_workers_with_epoll() -> None:
    with Ring(8, backend="epoll") as ring, pytest.raises(ValueError, match="only a ring of io_uring"):
        Ring(8, attach=ring)


def test_an_unknown_backend() -> None:
    with pytest.raises(ValueError, match="backend must be one of"):
        Ring(8, backend="auto")  # type: ignore[arg-type]
