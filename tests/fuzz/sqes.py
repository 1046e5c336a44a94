"""SQEs with random fields: whatever they ask for, the kernel answers, and nothing of this process is harmed.

Memory comes from an arena with nothing else in it, because an SQE may have the kernel write anywhere.  Left out is what
would harm others: the advice that poisons pages, sockets of families whose modules would be loaded, paths outside of
the folder that this runs in.
"""

import contextlib
import os
import random
import socket
from typing import Any

from tests.fuzz.backend import chosen
from uringloop.ring import Completion, Opcode, Pin, Ring, Sqe, SqeFlag, SqPoll, allocate

_ARENA_BYTES = 1 << 20
_LENGTH_MAX = 1 << 16
#: Whose result is a descriptor.
_MAKERS = {Opcode.OPENAT, Opcode.OPENAT2, Opcode.ACCEPT, Opcode.SOCKET, Opcode.FIXED_FD_INSTALL}
#: MADVISE has HWPOISON among its advice, PIPE writes descriptors into the arena, RECV_ZC needs a device.
_LEFT_OUT = {Opcode.MADVISE, Opcode.PIPE, Opcode.RECV_ZC}
_OPCODES = [*(int(opcode) for opcode in Opcode if opcode not in _LEFT_OUT), 200, 255]
_NUMBERS = (0, 1, 2, 3, 7, 16, 255, 4096, 65535, 1 << 31, (1 << 32) - 1)
_WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"shared": True},
    {"without": frozenset({"defer_taskrun"})},
    {"sq_poll": SqPoll(1)},
    {"io_poll": True},
)
_WAYS_ON_EPOLL: tuple[dict[str, Any], ...] = ({"backend": "epoll"}, {"backend": "epoll", "shared": True})
_FLAGS = (0, 0, 0, *(int(flag) for flag in SqeFlag))


class Fuzzer:
    """One ring, and random SQEs for it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._on_epoll = chosen() == "epoll"
        way = chance.choice(_WAYS_ON_EPOLL if self._on_epoll else _WAYS)
        self._ring = Ring(chance.choice((2, 4, 32)), cq_entries=chance.choice((4, 8, 64)), **way)
        self._memory = allocate(_ARENA_BYTES)
        self._arena = Pin(self._memory, writable=True)
        self._sockets = socket.socketpair()
        self._pipe = os.pipe()
        self._file = os.open("file", os.O_RDWR | os.O_CREAT, 0o600)
        self._descriptors = [*(sock.fileno() for sock in self._sockets), *self._pipe, self._file, self._ring.fd]
        if not self._on_epoll:
            self._ring.register_files([self._sockets[0].fileno(), self._file, -1])
            self._ring.register_buffers([allocate(4096), bytearray(100)])
        self._group = self._ring.open_group(4, 64)

    def run(self, count: int) -> None:
        """Stage so many SQEs, and take what completes; what is left is for `close` to end."""
        for _ in range(count):
            sqe = self._ring.get_sqe()
            sqe.hold(self._arena)
            sqe.data = self._chance.choice(_OPCODES)
            self._fill(sqe)
            if self._chance.random() < 0.3:
                self._ring.submit()
            if self._chance.random() < 0.3:
                with contextlib.suppress(BlockingIOError):  # an SQE may have filled it
                    os.pwritev(self._pipe[1], [b"x"], -1, os.RWF_NOWAIT)
                self._sockets[1].send(b"data", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) if self._alive() else None
            while (completion := self._ring.peek_cqe()) is not None:
                self._seen(completion)

    def _alive(self) -> bool:
        with contextlib.suppress(OSError):
            self._sockets[1].send(b"", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return True
        return False

    def _fill(self, sqe: Sqe) -> None:
        chance, opcode = self._chance, sqe.data
        fd = chance.choice((*self._descriptors, -1, 1 << 20, 0, 1, 2))
        if opcode == Opcode.SOCKET:
            fd = chance.choice((socket.AF_UNIX, socket.AF_INET, -1))
        elif opcode == Opcode.CLOSE:
            fd = 1 << 20
        elif fd in (0, 1, 2):
            fd = -100  # the folder
        sqe.prep(
            opcode,
            fd,
            self._address(),
            chance.randrange(_LENGTH_MAX) if chance.random() < 0.7 else chance.choice(_NUMBERS) % _LENGTH_MAX,
            self._address() if chance.random() < 0.5 else chance.choice(_NUMBERS),
            chance.choice(_NUMBERS),
            ioprio=chance.choice(_NUMBERS) % (1 << 16),
            flags=chance.choice(_FLAGS),
            buf_index=chance.choice((0, 1, 2, self._group.group_id, 65535)),
            personality=chance.choice((0, 0, 0, 1)),
            file_index=chance.choice((0, 0, 1, 2, 3, -1)),
            addr3=self._address() if chance.random() < 0.3 else 0,
        )

    def _address(self) -> int:
        """In the arena, with room for the longest length behind it; or nowhere, if the kernel alone looks there."""
        chance = self._chance
        if chance.random() < 0.2 and not self._on_epoll:
            return chance.choice((0, 1, 4095, (1 << 47) - 4096, 1 << 63))
        return self._arena.address + chance.randrange(_ARENA_BYTES - 2 * _LENGTH_MAX)

    def _seen(self, completion: Completion) -> None:
        operation = completion.operation
        if completion.buffer_id is not None and 0 <= completion.res <= self._group.size_bytes:
            with contextlib.suppress(IndexError):
                self._group.lend(completion).recycle()
        if operation is not None and operation.data in _MAKERS and completion.res > 2:
            with contextlib.suppress(OSError):
                if completion.res not in self._descriptors:
                    os.close(completion.res)

    def close(self) -> None:
        """End everything; it must end."""
        ring = self._ring
        ring.close()
        for fd in (*self._pipe, self._file):
            os.close(fd)
        for sock in self._sockets:
            sock.close()


def run(chance: random.Random) -> None:
    """One ring's life."""
    fuzzer = Fuzzer(chance)
    try:
        fuzzer.run(chance.randrange(10, 200))
    finally:
        fuzzer.close()
