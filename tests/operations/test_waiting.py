"""Operations that wait: for readiness, time, children, futexes, epoll sets; and those that end others."""

import asyncio
import contextlib
import errno
import mmap
import os
import select
import signal
import time

import pytest

from tests.kernel import needs
from tests.operations.covering import fails, works
from tests.operations.helpers import pipe, refused, running_loop, submit
from tests.variants import BACKENDS
from uringloop.operations import (
    Cancel,
    Clock,
    EpollAction,
    EpollControl,
    EpollWait,
    FutexFlag,
    FutexWait,
    FutexWaitAny,
    FutexWake,
    LinkTimeout,
    MessageRing,
    Nop,
    Operation,
    PollRemove,
    PollUpdate,
    Ready,
    Receive,
    Timeout,
    TimeoutRemove,
    TimeoutUpdate,
    WaitChild,
)
from uringloop.ring import Opcode, Ring

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)
LONG_NS = 3600 * 10**9
CANCELLED = "Operation canceled"


async def started(operation: Operation) -> "asyncio.Task[object]":
    """A task that awaits the operation, which the kernel has got."""
    task = asyncio.create_task(submit(operation))
    await asyncio.sleep(0)
    await submit(Nop())
    return task


@needs("results of NOP")
@works(Nop)
async def test_nothing() -> None:
    assert await submit(Nop()) == 0
    assert await submit(Nop(42)) == 42


@needs("results of NOP")
@fails(Nop)
async def test_nothing_that_fails() -> None:
    await refused(Nop(-errno.EIO), errno.EIO)


# Readiness


@works(Ready, PollUpdate)
async def test_polls_and_their_update() -> None:
    with pipe() as (reading, writing):
        assert await submit(Ready(writing, select.POLLOUT)) == select.POLLOUT
        poll = Ready(writing, select.POLLPRI)
        task = await started(poll)
        await submit(PollUpdate(poll, select.POLLOUT))
        assert await task == select.POLLOUT
        os.write(writing, b"x")
        assert await submit(Ready(reading, select.POLLIN)) == select.POLLIN


@works(PollRemove)
async def test_a_poll_is_removed() -> None:
    with pipe() as (reading, _):
        poll = Ready(reading, select.POLLIN)
        task = await started(poll)
        await submit(PollRemove(poll))
        with pytest.raises(OSError, match=CANCELLED):
            await task


@fails(Ready, PollUpdate, PollRemove)
async def test_polls_that_are_not_there() -> None:
    await refused(Ready(-1, select.POLLIN), errno.EBADF)
    gone = Ready(0, select.POLLIN)
    await refused(PollUpdate(gone, select.POLLIN), errno.ENOENT)
    await refused(PollRemove(gone), errno.ENOENT)


@works(Ready)
async def test_a_poll_reports_again_and_again() -> None:
    with pipe() as (reading, writing):
        async with running_loop().submit_multishot(Ready(reading, select.POLLIN)) as events:
            for _ in range(3):
                os.write(writing, b"x")
                assert await anext(events) == select.POLLIN
                os.read(reading, 1)


# Time


@works(Timeout)
@pytest.mark.parametrize("clock", list(Clock))
async def test_time_passes(clock: Clock) -> None:
    start_ns = time.monotonic_ns()
    assert await submit(Timeout(2_000_000, clock=clock)) is True
    assert time.monotonic_ns() - start_ns >= 2_000_000


@works(Timeout)
async def test_a_timeout_ends_with_other_completions() -> None:
    task = await started(Timeout(LONG_NS, count=1))
    await submit(Nop())
    assert await task is False


@needs("multishot timeouts")
@works(Timeout)
async def test_a_timeout_comes_so_many_times() -> None:
    loop = running_loop()
    assert [shot async for shot in loop.submit_multishot(Timeout(100_000, count=3))] == [True] * 3
    async with loop.submit_multishot(Timeout(100_000)) as shots:
        for _ in range(4):
            assert await anext(shots)


@works(TimeoutUpdate, TimeoutRemove)
async def test_a_timeout_is_shortened_or_ended() -> None:
    timeout = Timeout(LONG_NS)
    task = await started(timeout)
    await submit(TimeoutUpdate(timeout, 1000))
    assert await task is True
    task = await started(timeout := Timeout(LONG_NS))
    await submit(TimeoutRemove(timeout))
    with pytest.raises(OSError, match=CANCELLED):
        await task


@fails(Timeout, TimeoutUpdate, TimeoutRemove, LinkTimeout)
async def test_timeouts_that_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        Timeout(-1)
    await refused(Timeout(1, clock=Clock.BOOTTIME | Clock.REALTIME), errno.EINVAL)
    await refused(TimeoutUpdate(Timeout(1), 1), errno.ENOENT)
    await refused(TimeoutRemove(Timeout(1)), errno.ENOENT)
    await refused(LinkTimeout(1), errno.EINVAL)


# Cancelling by hand


@works(Cancel)
async def test_others_are_cancelled() -> None:
    with pipe() as (one, _), pipe() as (two, _):
        polls = [Ready(fd, select.POLLIN) for fd in (one, one, two)]
        tasks = [await started(poll) for poll in polls]
        assert await submit(Cancel(polls[0])) == 0
        assert await submit(Cancel(fd=one, all=True)) == 1
        await started(Timeout(1))
        assert await submit(Cancel(cancelled_opcode=Opcode.TIMEOUT, all=True)) <= 1
        assert not tasks[2].done()
        await submit(Cancel(polls[2]))
        for task in tasks:
            with pytest.raises(OSError, match=CANCELLED):
                await task


@fails(Cancel)
async def test_cancels_that_find_nothing() -> None:
    await refused(Cancel(Nop()), errno.ENOENT)
    with pipe() as (reading, _):
        await refused(Cancel(fd=reading), errno.ENOENT)
    with pytest.raises(TypeError, match="give one of"):
        Cancel(Nop(), fd=1)


# Children


def spawn(*command: str, stdin: int = 0) -> int:
    return os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)])


def kill(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


@works(WaitChild)
@pytest.mark.parametrize("status", [0, 3])
async def test_a_child_ends(status: int) -> None:
    pid = spawn("sh", "-c", f"exit {status}")
    result = await submit(WaitChild(os.P_PID, pid))
    assert (result.si_pid, result.si_status, result.si_code) == (pid, status, os.CLD_EXITED)
    assert result.si_signo == signal.SIGCHLD


@works(WaitChild)
async def test_a_child_goes_on() -> None:
    with pipe() as (reading, writing):
        pid = spawn("cat", stdin=reading)
        assert await submit(WaitChild(os.P_PID, pid, os.WEXITED | os.WNOHANG)) is None
        task = await started(WaitChild(os.P_PID, pid))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Cancelled, it has taken nothing.
        assert kill(pid) == signal.SIGKILL
        assert writing


@fails(WaitChild)
async def test_no_child() -> None:
    await refused(WaitChild(os.P_PID, os.getpid()), errno.ECHILD)
    await refused(WaitChild(100, 1), errno.EINVAL)


# Futexes


@works(FutexWait, FutexWake, FutexWaitAny)
@pytest.mark.parametrize("flags", [0, FutexFlag.PRIVATE])
async def test_words_that_are_woken(flags: int) -> None:
    with mmap.mmap(-1, 4096) as memory, memoryview(memory) as words:
        first, second = words[0:4], words[4:8]
        first[:] = (7).to_bytes(4, "little")
        tasks = [await started(FutexWait(first, 7, flags=flags)) for _ in range(2)]
        both = await started(FutexWaitAny([(second, 0), (first, 7)], flags))
        assert await submit(FutexWake(second, 10, flags=flags)) == 1
        assert await both == 0
        assert await submit(FutexWake(first, 10, flags=flags)) == 2
        assert await asyncio.gather(*tasks) == [None, None]
        assert await submit(FutexWake(first, flags=flags)) == 0
        first.release()
        second.release()


@fails(FutexWait, FutexWake, FutexWaitAny)
async def test_words_that_are_not_waited_for() -> None:
    word = bytearray(8)
    await refused(FutexWait(word, 1), errno.EAGAIN)
    await refused(FutexWaitAny([(word, 1)]), errno.EAGAIN)
    await refused(FutexWake(word, mask=0), errno.EINVAL)
    with pytest.raises(ValueError, match="four bytes"):
        FutexWait(memoryview(word)[1:5], 0)
    with pytest.raises(ValueError, match="four bytes"):
        FutexWake(bytearray(2))


@needs(FutexWait)
async def test_a_cancelled_wait_for_a_word_lets_go_of_it() -> None:
    word = bytearray(4)
    task = await started(FutexWait(word, 0))
    with pytest.raises(BufferError):
        word.clear()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    word.clear()


# Epoll sets


@works(EpollControl, EpollWait)
async def test_an_epoll_set() -> None:
    with contextlib.closing(select.epoll()) as epoll, pipe() as (reading, writing):
        await submit(EpollControl(epoll.fileno(), EpollAction.ADD, reading, select.EPOLLIN))
        await submit(EpollControl(epoll.fileno(), EpollAction.ADD, writing, select.EPOLLOUT, data=1 << 40))
        assert await submit(EpollWait(epoll.fileno())) == [(1 << 40, select.EPOLLOUT)]
        await submit(EpollControl(epoll.fileno(), EpollAction.DEL, writing))
        task = await started(EpollWait(epoll.fileno()))
        assert not task.done()
        os.write(writing, b"x")
        assert await task == epoll.poll(0) == [(reading, select.EPOLLIN)]


@fails(EpollControl, EpollWait)
async def test_no_epoll_set() -> None:
    with pipe() as (reading, writing), contextlib.closing(select.epoll()) as epoll:
        await refused(EpollControl(reading, EpollAction.ADD, writing), errno.EINVAL)
        await refused(EpollControl(epoll.fileno(), EpollAction.DEL, writing), errno.ENOENT)
        await refused(EpollWait(reading), errno.EINVAL)


# Other rings


@works(MessageRing)
async def test_a_message_arrives_at_another_ring() -> None:
    with Ring() as other:
        await submit(MessageRing(other.fd, 0x100, 123))
        completion = other.wait_cqe()
        assert (completion.number, completion.res) == (0x100, 123)


@fails(MessageRing, Receive)
async def test_messages_to_what_is_no_ring() -> None:
    with pipe() as (reading, _):
        await refused(MessageRing(reading, 1), errno.EBADFD)
        for number, answer in ((-1, 0), (1 << 60, 0), (1, 1 << 31), (1, -(1 << 31) - 1)):
            with pytest.raises(ValueError, match="bits"):
                MessageRing(reading, number, answer)
        await refused(Receive(reading, 10), errno.ENOTSOCK)
