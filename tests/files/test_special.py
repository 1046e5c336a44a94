"""Special files of all kinds against `open`: the same result or errno, or the wait that an event ends.

Nothing is written that changes anything: to what the test made, to devices that swallow, and where it is refused.
"""

import asyncio
import builtins
import contextlib
import ctypes
import os
import pty
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from uringloop import files

from .conftest import WITH_THREADS, Run

pytestmark = pytest.mark.parametrize("run", WITH_THREADS, indirect=True)

libc = ctypes.CDLL(None, use_errno=True)
_SYS_USERFAULTFD = 323
Make = Callable[[contextlib.ExitStack], int]


def checked(result: int) -> int:
    if result < 0:
        pytest.skip(f"not here: {os.strerror(ctypes.get_errno())}")
    return result


def held(stack: contextlib.ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def memfd(stack: contextlib.ExitStack) -> int:
    fd = held(stack, os.memfd_create("test"))
    os.write(fd, b"content")
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def eventfd(stack: contextlib.ExitStack) -> int:
    return held(stack, os.eventfd(3))


def timerfd(stack: contextlib.ExitStack) -> int:
    fd = held(stack, checked(libc.timerfd_create(1, 0)))
    libc.timerfd_settime(fd, 0, struct.pack("qqqq", 0, 0, 0, 1), None)
    select.select([fd], [], [])
    return fd


def inotify(stack: contextlib.ExitStack) -> int:
    fd = held(stack, checked(libc.inotify_init1(0)))
    assert libc.inotify_add_watch(fd, b"/dev/null", 0x20) >= 0
    os.close(os.open("/dev/null", os.O_RDONLY))
    return fd


def signalfd(stack: contextlib.ExitStack) -> int:
    return held(stack, checked(libc.signalfd(-1, struct.pack("Q", 1 << (signal.SIGUSR1 - 1)).ljust(128, b"\0"), 0)))


def pidfd(stack: contextlib.ExitStack) -> int:
    return held(stack, os.pidfd_open(os.getpid()))


def epoll(stack: contextlib.ExitStack) -> int:
    return stack.enter_context(select.epoll()).fileno()


def userfaultfd(stack: contextlib.ExitStack) -> int:
    return held(stack, checked(libc.syscall(_SYS_USERFAULTFD, 0)))


def fanotify(stack: contextlib.ExitStack) -> int:
    return held(stack, checked(libc.fanotify_init(0, 0)))


def pty_ends(stack: contextlib.ExitStack) -> tuple[int, int]:
    master, slave = pty.openpty()
    return held(stack, master), held(stack, slave)


def pty_master(stack: contextlib.ExitStack) -> int:
    master, slave = pty_ends(stack)
    os.write(slave, b"line\n")
    return master


def pty_slave(stack: contextlib.ExitStack) -> int:
    master, slave = pty_ends(stack)
    os.write(master, b"line\n")
    return slave


def connected(stack: contextlib.ExitStack, kind: int) -> int:
    ours, theirs = socket.socketpair(type=kind)
    stack.enter_context(ours)
    stack.enter_context(theirs)
    theirs.send(b"hello")
    return ours.fileno()


def stream_socket(stack: contextlib.ExitStack) -> int:
    return connected(stack, socket.SOCK_STREAM)


def datagram_socket(stack: contextlib.ExitStack) -> int:
    return connected(stack, socket.SOCK_DGRAM)


def packet_socket(stack: contextlib.ExitStack) -> int:
    return connected(stack, socket.SOCK_SEQPACKET)


def listener(stack: contextlib.ExitStack) -> int:
    return stack.enter_context(socket.create_server(("127.0.0.1", 0))).fileno()


def unconnected(stack: contextlib.ExitStack) -> int:
    return stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)).fileno()


def pipe_reader(stack: contextlib.ExitStack) -> int:
    reader, writer = os.pipe()
    held(stack, writer)
    os.write(writer, b"hello")
    return held(stack, reader)


def pipe_writer(stack: contextlib.ExitStack) -> int:
    reader, writer = os.pipe()
    held(stack, reader)
    return held(stack, writer)


def path_only(stack: contextlib.ExitStack) -> int:
    return held(stack, os.open("/dev/null", os.O_PATH))


def folder(stack: contextlib.ExitStack) -> int:
    return held(stack, os.open("/dev", os.O_RDONLY))


BOTH = (
    memfd,
    eventfd,
    timerfd,
    inotify,
    pidfd,
    epoll,
    userfaultfd,
    pty_master,
    pty_slave,
    stream_socket,
    datagram_socket,
    packet_socket,
    listener,
    pipe_reader,
    pipe_writer,
    path_only,
    folder,
)
READ = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/hwrng", "/dev/kmsg", "/dev/fuse")
READ += ("/dev/autofs", "/dev/btrfs-control", "/dev/cpu_dma_latency", "/dev/kvm", "/dev/loop-control", "/dev/loop0")
READ += ("/dev/vga_arbiter", "/dev/vcs", "/dev/vsock", "/dev/net/tun", "/dev/userfaultfd", "/dev/tty", "/dev/rtc0")
READ += ("/proc/self/status", "/proc/self/mem", "/proc/self/pagemap", "/proc/self/mounts", "/proc/self/clear_refs")
READ += (
    "/proc/self/ns/net",
    "/proc/self/exe",
    "/proc/self/task",
    "/proc/kcore",
    "/proc/interrupts",
    "/proc/timer_list",
)
READ += ("/proc/pressure/cpu", "/proc/sys/kernel/hostname", "/sys/class/net/lo/mtu", "/sys/block", "/sys/power/state")
READ += ("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_seqnum", "/proc/sysrq-trigger")
#: What refuses, or has no effect: never one that would take a setting.
WRITE = ("/dev/null", "/dev/zero", "/dev/full", "/dev/kmsg", "/dev/autofs", "/dev/loop-control", "/dev/userfaultfd")
WRITE += (
    "/dev/vga_arbiter",
    "/dev/kvm",
    "/dev/fuse",
    "/proc/self/status",
    "/proc/self/mounts",
    "/proc/kmsg",
    "/sys/block",
)
WRITE += ("/proc/interrupts", "/proc/self/ns/net", "/sys/class/net/lo/address", "/sys/kernel/uevent_seqnum")


def size_or(value: Any) -> Any:
    """Results differ in content where that is random, and in size where it is of a moment."""
    return ("bytes", bool(value)) if isinstance(value, bytes) else value


def told(error: OSError) -> tuple[type[OSError], int | None]:
    return type(error), error.errno


def by_open(target: Any, mode: str, data: bytes | None) -> Any:
    try:
        with builtins.open(target, mode, 0, closefd=not isinstance(target, int)) as file:
            return size_or(file.read(8192) if data is None else file.write(data))
    except OSError as error:
        return told(error)


def by_files(run: Run, target: Any, mode: str, data: bytes | None) -> Any:
    async def main() -> Any:
        try:
            async with asyncio.timeout(20), files.open(target, mode, 0, closefd=not isinstance(target, int)) as file:
                return size_or(await (file.read(8192) if data is None else file.write(data)))
        except TimeoutError as error:
            return "waits" if error.errno is None else told(error)
        except OSError as error:
            return told(error)

    return run(main())


def as_with_open(run: Run, make: Any, mode: str, data: bytes | None) -> None:
    answers = []
    for ask in (by_open, lambda *arguments: by_files(run, *arguments)):
        with contextlib.ExitStack() as stack:
            target = make(stack) if callable(make) else make
            answers.append(ask(target, mode, data))
    assert answers[1] == answers[0]


@pytest.mark.parametrize("make", BOTH, ids=lambda make: make.__name__)
def test_read_descriptor(run: Run, make: Make) -> None:
    as_with_open(run, make, "rb", None)


@pytest.mark.parametrize("make", [*BOTH, fanotify, unconnected, signalfd], ids=lambda make: make.__name__)
def test_write_descriptor(run: Run, make: Make) -> None:
    as_with_open(run, make, "wb", struct.pack("Q", 1))


@pytest.mark.parametrize("path", READ)
def test_read_path(run: Run, path: str) -> None:
    if not Path(path).exists():
        pytest.skip("not here")
    as_with_open(run, path, "rb", None)


@pytest.mark.parametrize("path", WRITE)
def test_write_path(run: Run, path: str) -> None:
    if not Path(path).exists():
        pytest.skip("not here")
    # To the kernel's log at the level of debugging.
    as_with_open(run, path, "r+b", b"<7>uringloop test\n")


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def unset_timer(stack: contextlib.ExitStack) -> tuple[int, Callable[[], object], int]:
    fd = held(stack, checked(libc.timerfd_create(1, 0)))
    return fd, lambda: libc.timerfd_settime(fd, 0, struct.pack("qqqq", 0, 0, 0, 1), None), 8


def empty_counter(stack: contextlib.ExitStack) -> tuple[int, Callable[[], object], int]:
    fd = held(stack, os.eventfd(0))
    return fd, lambda: os.eventfd_write(fd, 1), 8


def quiet_watch(stack: contextlib.ExitStack) -> tuple[int, Callable[[], object], int]:
    fd = held(stack, checked(libc.inotify_init1(0)))
    assert libc.inotify_add_watch(fd, b"/dev/full", 0x20) >= 0
    return fd, lambda: os.close(os.open("/dev/full", os.O_RDONLY)), 16


def quiet_terminal(stack: contextlib.ExitStack) -> tuple[int, Callable[[], object], int]:
    master, slave = pty_ends(stack)
    return slave, lambda: os.write(master, b"line\n"), 5


@pytest.mark.parametrize("make", [unset_timer, empty_counter, quiet_watch, quiet_terminal], ids=lambda m: m.__name__)
def test_read_that_waits(run: Run, stack: contextlib.ExitStack, make: Any) -> None:
    """It ends when there is something."""
    fd, happen, size_bytes = make(stack)

    async def main() -> None:
        async with files.open(fd, "rb", 0, closefd=False) as file:
            reading = asyncio.ensure_future(file.read(4096))
            await asyncio.sleep(0)
            assert not reading.done()
            happen()
            async with asyncio.timeout(20):
                assert len(await reading) == size_bytes

    run(main())


def test_write_that_waits(run: Run, stack: contextlib.ExitStack) -> None:
    fd = held(stack, os.eventfd(0))
    os.eventfd_write(fd, 2**64 - 2)

    async def main() -> None:
        async with files.open(fd, "wb", 0, closefd=False) as file:
            writing = asyncio.ensure_future(file.write(struct.pack("Q", 1)))
            await asyncio.sleep(0)
            assert not writing.done()
            assert os.eventfd_read(fd) == 2**64 - 2
            async with asyncio.timeout(20):
                assert await writing == 8

    run(main())


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_kernel_log_with_buffers(run: Run, mode: str) -> None:
    if not os.access("/dev/kmsg", os.W_OK):
        pytest.skip("not here")
    line = "<7>uringloop test\n"

    async def main() -> None:
        async with asyncio.timeout(20), files.open("/dev/kmsg", mode) as file:
            await file.write(line if mode == "w" else line.encode())
            await file.flush()
            await file.write(line if mode == "w" else line.encode())

    run(main())


@pytest.mark.parametrize(
    "make", [pidfd, pipe_reader, pipe_writer, stream_socket, pty_slave, memfd], ids=lambda m: m.__name__
)
@pytest.mark.parametrize("name", ["pread", "pwrite", "preadv", "pwritev"])
def test_positions(run: Run, make: Make, name: str) -> None:
    """Of what has none, as `os` says."""
    argument: Any = {"pread": 1, "pwrite": b"x", "preadv": [bytearray(1)], "pwritev": [b"x"]}[name]

    def result_of(function: Callable[[int], Any]) -> Any:
        with contextlib.ExitStack() as stack:
            try:
                return function(make(stack))
            except OSError as error:
                return told(error)

    async def main(fd: int) -> Any:
        async with asyncio.timeout(20):
            return await getattr(files.os, name)(fd, argument, 0)

    assert result_of(lambda fd: run(main(fd))) == result_of(lambda fd: getattr(os, name)(fd, argument, 0))
