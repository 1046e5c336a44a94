"""System calls that fail on epoll: no descriptor is left, or a filter refuses them."""

import asyncio
import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import uringloop
from tests.children import script
from tests.refused.seccomp import _ARCHITECTURES
from uringloop import files
from uringloop.operations import Nop, Timeout

filtered = pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine")


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Leave only so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_ones = [os.dup(0) for _ in range(count + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_ones[-1], hard))
    for fd in next_ones:
        os.close(fd)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_loop_without_a_descriptor_says_so() -> None:
    """Each of its descriptors in turn is one too many."""
    errors: list[int | None] = []
    loop = None
    while loop is None:
        with descriptors_left(len(errors)):
            try:
                loop = uringloop.EventLoop(backend="epoll")
            except OSError as error:
                errors.append(error.errno)
    loop.close()
    assert len(errors) > 2
    assert set(errors) == {errno.EMFILE}


@pytest.mark.asyncio(loop_factories=["epoll", "epoll-ring"])
async def test_timeouts_need_no_descriptor() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.EventLoop)
    reader, writer = os.pipe()
    loop.add_reader(reader, lambda: None)
    await loop.submit(Nop())  # makes the ring
    with descriptors_left(0):
        assert await loop.submit(Timeout(1_000_000)) is True
    loop.remove_reader(reader)
    os.close(reader)
    os.close(writer)


@pytest.mark.asyncio(loop_factories=["epoll"])
async def test_the_first_call_of_a_thread_without_a_descriptor_says_so(tmp_path: Path) -> None:
    """The loop goes on, and the next call finds a descriptor."""
    path = tmp_path / "file"
    path.write_bytes(b"words")
    with descriptors_left(0), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        await files.read_bytes(path)
    assert await files.read_bytes(path) == b"words"


_START = """
import asyncio, errno, os, socket, sys, time, uringloop
from tests.epoll.hand import hand_on
from tests.refused import seccomp
from uringloop.ring import Opcode

"""

NO_ROOM_IN_THE_SET = (
    _START
    + """
class Protocol(asyncio.Protocol):
    def connection_lost(self, error):
        lost.set_result(error)

async def main():
    global lost
    loop = asyncio.get_running_loop()
    lost = loop.create_future()
    ours, theirs = socket.socketpair()
    other, others = socket.socketpair()
    other.setblocking(False)
    await asyncio.sleep(0.001)  # the set gets the descriptor by which threads wake the loop
    seccomp.refuse(errno.ENOSPC, seccomp.EPOLL_CTL)
    try:
        await loop.sock_recv(other, 1)
    except OSError as error:
        print("sock_recv", errno.errorcode[error.errno])
    await loop.create_connection(Protocol, sock=ours)
    print("stream", errno.errorcode[(await lost).errno])
    await asyncio.sleep(0.001)
    for sock in (ours, theirs, other, others):
        sock.close()

with hand_on("epoll") as hand:
    ours, theirs = hand.pair()
    with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
        runner.run(main())
    hand.stage("receive", Opcode.RECV, ours.fileno(), bytearray(1))
    hand.stage("other", Opcode.NOP)
    print(hand.wait_all())
"""
)


@filtered
def test_an_epoll_set_without_room_says_so() -> None:
    assert script(NO_ROOM_IN_THE_SET) == (
        "sock_recv ENOSPC\nstream ENOSPC\n{'receive': [('ENOSPC', '')], 'other': [(0, '')]}\n"
    )


NO_FILES_IN_THE_SYSTEM = (
    _START
    + """
async def main():
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    loop.set_exception_handler(lambda loop, context: told.done() or told.set_result(context))
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    await asyncio.sleep(0)
    seccomp.refuse(errno.ENFILE, seccomp.ACCEPT4)
    with socket.create_connection(server.sockets[0].getsockname()):
        context = await told
    print(context["message"], errno.errorcode[context["exception"].errno])
    server.close()

with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
    runner.run(main())
"""
)


@filtered
def test_an_accept_without_a_file_says_so() -> None:
    assert script(NO_FILES_IN_THE_SYSTEM) == "socket.accept() out of system resource ENFILE\n"


MILLISECONDS = (
    _START
    + """
seccomp.refuse(int(sys.argv[1]), seccomp.EPOLL_PWAIT2)

async def main():
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    begin_s = loop.time()
    await asyncio.sleep(0.0005)
    assert loop.time() - begin_s >= 0.0005
    receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
    await asyncio.sleep(0)
    theirs.send(b"words")
    print(await receiving)
    ours.close(), theirs.close()

with hand_on("epoll") as hand:
    hand.stage("timeout", Opcode.TIMEOUT, memory=hand.seconds(0.0005), length=1)
    print(hand.wait_all())
with asyncio.Runner(loop_factory=lambda: uringloop.EventLoop(backend="epoll")) as runner:
    runner.run(main())
"""
)


@filtered
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_times_are_milliseconds_without_epoll_pwait2(error: int) -> None:
    assert script(MILLISECONDS, str(error)) == "{'timeout': [('ETIME', '')]}\nb'words'\n"
