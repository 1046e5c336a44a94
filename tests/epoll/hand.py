"""`Hand`: SQEs by hand on a ring, named, and their completions by these names.

`both` runs one body on io_uring and on epoll; the bodies return what they saw, which must be the same.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uringloop.ring import Completion, CqeFlag, Opcode, Pin, Ring, Sqe, SqeFlag
from uringloop.ring.groups import BufferGroup
from uringloop.ring.setup import Backend

LINK, HARDLINK, DRAIN, SKIP = SqeFlag.IO_LINK, SqeFlag.IO_HARDLINK, SqeFlag.IO_DRAIN, SqeFlag.CQE_SKIP_SUCCESS
#: A case that hangs fails by this.
_LIMIT_NS = 20_000_000_000
#: Whether a completion has come that none is awaited for: the flags that are compared.
_COMPARED = CqeFlag.BUFFER | CqeFlag.MORE

#: A result by its errno's name, and the names of the flags that came with it.
Outcome = tuple[int | str, str]
Outcomes = dict[str, list[Outcome]]


class Hand:
    """A ring, a folder, and descriptors that are closed in the end."""

    def __init__(self, backend: Backend, folder: Path, entries: int = 64) -> None:
        self.backend = backend
        self.folder = folder
        self.stack = contextlib.ExitStack()
        self.ring = self.stack.enter_context(Ring(entries, cq_entries=2 * entries, backend=backend))
        self.outcomes: Outcomes = {}
        self.order: list[str] = []
        self.last: Completion | None = None
        self._held: list[object] = []

    def memory(self, buffer: bytes | bytearray) -> int:
        """Return the address of a buffer, which stays there."""
        pin = Pin(buffer, writable=isinstance(buffer, bytearray))
        self._held.append(pin)
        return pin.address

    def stage(
        self,
        name: str,
        opcode: Opcode | int,
        fd: int = -1,
        memory: bytes | bytearray | int = 0,
        length: int | None = None,
        offset: int | bytes | bytearray = 0,
        op_flags: int = 0,
        **fields: int,
    ) -> Sqe:
        """Stage an SQE; memory as its address, with its size as the length unless that is given."""
        if length is None:
            length = 0 if isinstance(memory, int) else len(memory)
        address = memory if isinstance(memory, int) else self.memory(memory)
        second = offset if isinstance(offset, int) else self.memory(offset)
        sqe = self.ring.get_sqe()
        sqe.data = name
        sqe.prep(opcode, fd, address, length, second % (1 << 64), op_flags, **fields)
        self.outcomes.setdefault(name, [])
        return sqe

    def cancel(self, name: str, target: Sqe | int = 0, op_flags: int = 0, fd: int = -1, length: int = 0) -> None:
        """Stage an ASYNC_CANCEL."""
        token = target if isinstance(target, int) else target.user_data
        self.stage(name, Opcode.ASYNC_CANCEL, fd, token, length, op_flags=op_flags)

    def wait(self, count: int = 1) -> Outcomes:
        """Wait for so many completions."""
        for _ in range(count):
            self._hear(self.ring.wait_cqe(_LIMIT_NS))
        return self.outcomes

    def wait_all(self) -> Outcomes:
        """Wait until nothing is in flight."""
        for completion in self.ring.completions(_LIMIT_NS):
            self._hear(completion)
        return self.outcomes

    def _hear(self, completion: Completion) -> None:
        operation = completion.operation
        assert isinstance(operation, Sqe)
        flags = CqeFlag(completion.flags & _COMPARED)
        res: int | str = errno.errorcode[-completion.res] if completion.res < 0 else completion.res
        self.outcomes[operation.data].append((res, "|".join(str(flag.name) for flag in flags)))
        self.order.append(operation.data)
        self.last = completion

    def seconds(self, seconds: float) -> bytes:
        """Return a struct __kernel_timespec."""
        return struct.pack("qq", int(seconds), round(seconds % 1 * 1e9))

    def pair(self, kind: int = socket.SOCK_STREAM, *, blocks: bool = True) -> tuple[socket.socket, socket.socket]:
        """Return two connected sockets."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        for sock in (ours, theirs):
            self.stack.enter_context(sock)
            sock.setblocking(blocks)
        return ours, theirs

    def tcp_pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two connected TCP sockets."""
        with self.listener() as listener:
            ours = self.stack.enter_context(socket.create_connection(listener.getsockname()))
            theirs = self.stack.enter_context(listener.accept()[0])
        return ours, theirs

    def listener(self) -> socket.socket:
        """Return a listening TCP socket that blocks."""
        return self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def pipe(self, flags: int = 0) -> tuple[int, int]:
        """Return the ends of a pipe."""
        ends = os.pipe2(flags | os.O_CLOEXEC)
        for end in ends:
            self.own(end)
        return ends

    def own(self, fd: int) -> int:
        """Close a descriptor in the end, unless it is closed already."""

        def close() -> None:
            with contextlib.suppress(OSError):
                os.close(fd)

        self.stack.callback(close)
        return fd

    def file(self, content: bytes = b"", name: str = "file") -> int:
        """Return a new file, open for reading and writing."""
        path = self.folder / name
        path.write_bytes(content)
        return self.own(os.open(path, os.O_RDWR))

    def group(self, count: int = 4, size_bytes: int = 16) -> BufferGroup:
        """Return a group of receive buffers."""
        return self.ring.open_group(count, size_bytes)


def iovec(hand: Hand, *buffers: bytes | bytearray) -> bytes:
    """Return an array of struct iovec."""
    return b"".join(struct.pack("QQ", hand.memory(buffer), len(buffer)) for buffer in buffers)


def message(
    hand: Hand,
    *buffers: bytes | bytearray,
    name: bytes | bytearray = b"",
    control: bytearray | bytes = b"",
) -> bytearray:
    """Return a struct msghdr."""
    vector = iovec(hand, *buffers)
    return bytearray(
        struct.pack(
            "QIxxxxQQQQixxxx",
            hand.memory(name) if name else 0,
            len(name),
            hand.memory(vector) if vector else 0,
            len(buffers),
            hand.memory(control) if control else 0,
            len(control),
            0,
        )
    )


def address_of(sock: socket.socket) -> bytes:
    """Return the struct sockaddr_in of a socket's own name."""
    host, port = sock.getsockname()
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def c_path(path: Path | str) -> bytes:
    """Return a path with the NUL that ends it."""
    return os.fsencode(path) + b"\0"


def lent(hand: Hand, group: BufferGroup) -> bytes:
    """Return the bytes of the last completion, whose buffer goes back to its group."""
    assert hand.last is not None
    with group.lend(hand.last) as content:
        return bytes(content)


class Cases(list[Callable[[Hand], Any]]):
    """Bodies for `both`; `add` decorates them."""

    def add(self, body: Callable[[Hand], Any]) -> Callable[[Hand], Any]:
        """Add a body."""
        self.append(body)
        return body


@contextlib.contextmanager
def hand_on(backend: Backend, entries: int = 64) -> Iterator[Hand]:
    """Give a hand on one backend."""
    with tempfile.TemporaryDirectory() as folder:
        hand = Hand(backend, Path(folder), entries)
        with hand.stack:
            yield hand


def both(body: Callable[[Hand], Any], *, entries: int = 64) -> None:
    """Run a body on io_uring and on epoll; it returns the same."""
    seen = {}
    for backend in ("io_uring", "epoll"):
        with hand_on(backend, entries) as hand:
            seen[backend] = body(hand)
    assert seen["epoll"] == seen["io_uring"]


libc = ctypes.CDLL(None, use_errno=True)
