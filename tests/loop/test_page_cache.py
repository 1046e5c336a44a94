"""`sendfile.sender`: only bytes that the page cache has go at once."""

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from uringloop.sendfile.sender import NOT_CACHED, SENT_ALL, SENT_MUCH, SOCKET_FULL, send_cached

from .helpers import pattern

SIZE_BYTES = 1_000_000
_PR_SET_DUMPABLE = 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(pattern(SIZE_BYTES))
    return path


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Be nobody.  The kernel then takes this process for one that may not be dumped, which would stay."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def evict(file: BinaryIO) -> None:
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def reads_cached(file: BinaryIO, offset: int) -> bool:
    """Whether a byte is cached."""
    try:
        return os.preadv(file.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        pytest.skip("the file system has no RWF_NOWAIT")


def test_only_cached_bytes_go_at_once(path: Path) -> None:
    ours, peer = socket.socketpair()
    with ours, peer, path.open("rb") as file:
        evict(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        os.pread(file.fileno(), 4 * 4096, 0)
        ours.setblocking(False)
        # Other work on the disk may keep pages from being evicted.
        if all(reads_cached(file, at) for at in range(4 * 4096, 40_000, 4096)):
            pytest.skip("the file system keeps the file in memory")
        sent_bytes, reason = send_cached(ours.fileno(), file.fileno(), 5, 40_000)
        assert (reason, sent_bytes < 40_000) == (NOT_CACHED, True)
        assert peer.recv(40_000, socket.MSG_DONTWAIT) == pattern(sent_bytes, 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("count", [None, 100, 300_000])
def test_a_file_of_another_user(path: Path, count: int | None) -> None:
    """The kernel does not tell how much of it is cached."""
    ours, peer = socket.socketpair()
    with ours, peer, path.open("rb") as file:
        ours.setblocking(False)
        assert reads_cached(file, 0)
        received = bytearray()
        with another_user():
            while len(received) < (count or SIZE_BYTES):
                left_bytes = None if count is None else count - len(received)
                sent_bytes, reason = send_cached(ours.fileno(), file.fileno(), len(received), left_bytes)
                assert reason in (SENT_ALL, SENT_MUCH, SOCKET_FULL)
                received += peer.recv(sent_bytes, socket.MSG_WAITALL)
        assert received == pattern(count or SIZE_BYTES)


@pytest.mark.timeout(10)
def test_a_blocking_socket_is_not_waited_for(path: Path) -> None:
    ours, peer = socket.socketpair()
    with ours, peer, path.open("rb") as file:
        sent_bytes, reason = send_cached(ours.fileno(), file.fileno(), 0, None)
        assert (reason, 0 < sent_bytes < SIZE_BYTES) == (SOCKET_FULL, True)
        assert peer.recv(sent_bytes, socket.MSG_WAITALL) == pattern(sent_bytes)


def test_a_peer_that_is_gone_raises_no_signal(path: Path) -> None:
    signals: list[int] = []
    handler = signal.signal(signal.SIGPIPE, lambda number, _: signals.append(number))
    try:
        ours, peer = socket.socketpair()
        peer.close()
        with ours, path.open("rb") as file:
            ours.setblocking(False)
            with pytest.raises(BrokenPipeError):
                send_cached(ours.fileno(), file.fileno(), 0, None)
    finally:
        signal.signal(signal.SIGPIPE, handler)
    assert signals == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_system_without_cached_reads() -> None:
    """There mincore(2) answers, but not to another user."""
    ours, peer = socket.socketpair()
    with ours, peer, os.fdopen(os.memfd_create("file"), "rb+", buffering=0) as file:
        file.write(pattern(50_000))
        file.truncate(SIZE_BYTES)  # with a hole
        ours.setblocking(False)
        with contextlib.suppress(OSError):
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            pytest.skip("files in memory have RWF_NOWAIT here")
        assert send_cached(ours.fileno(), file.fileno(), 5, 100) == (100, SENT_ALL)
        assert send_cached(ours.fileno(), file.fileno(), 5000, 40_000) == (40_000, SENT_ALL)
        assert peer.recv(1 << 20) == pattern(100, 5) + pattern(40_000, 5000)
        sent_bytes, reason = send_cached(ours.fileno(), file.fileno(), 49_000, None)
        assert (sent_bytes, reason) == (-(-50_000 // 4096) * 4096 - 49_000, NOT_CACHED)
        assert peer.recv(1 << 20)[:1000] == pattern(1000, 49_000)
        with another_user():
            assert send_cached(ours.fileno(), file.fileno(), 0, 100) == (0, NOT_CACHED)
