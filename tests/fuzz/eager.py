"""Eager tasks in all callbacks, over all transports and `sock_*` at once: whose bytes arrive, and how many and when.

Each callback may start a coroutine that runs at once: it writes to a file, flushes it, or opens and closes one, through
the ring.  Each connection is sent random bytes by a socket that the loop does not know, and sends them back there.
"""

import asyncio
import os
import random
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import uringloop
from tests.housekeeping import settle
from tests.tls import client_context, server_context
from uringloop import files
from uringloop.operations import Fsync, Nop, Write
from uringloop.ring import OPTIONAL

_LATE_S = 5
_TIMEOUT_S = 10
_PLAIN = ("stream", "pipe", "datagram")
_SOCK = ("sock", "sock-datagram")
#: Nothing to send now, or nothing to receive; of a TLS socket too.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Life:
    """The state that all callbacks of one loop share."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.log = os.memfd_create("log")
        self.begun = self.ended = 0
        #: Once all are connected, and how often a callback may yet send to one of them.
        self.ends: list[_End] = []
        self.turns = 0
        #: Bytes: that arrived, that are others than were sent, and that came after more than `_LATE_S`.
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Called in each callback."""
        if self.turns > 0 and self.chance.random() < 0.5:
            # There is something to reap for the operation that comes next.
            self.turns -= 1
            self.chance.choice(self.ends).feed()
        if self.chance.random() < 0.7:
            self.drive(self._operate())

    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine as an eager task does, also on Python 3.11."""
        self.begun += 1
        self._go_on(coroutine)

    def _go_on(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            future = coroutine.send(None)
        except StopIteration:
            self.ended += 1
            return
        if future is None:
            asyncio.get_running_loop().call_soon(self._go_on, coroutine)
        else:
            future._asyncio_future_blocking = False
            future.add_done_callback(lambda _: self._go_on(coroutine))

    async def _operate(self) -> None:
        loop: Any = asyncio.get_running_loop()
        for _ in range(self.chance.randrange(1, 4)):
            kind = self.chance.randrange(5)
            if kind == 0:
                await loop.submit(Write(self.log, b"line\n", 0))
            elif kind == 1:
                await loop.submit(Fsync(self.log))
            elif kind == 2:
                await loop.submit(Nop())
            elif kind == 3:
                file = await files.open("/proc/self/comm", "rb")
                await file.read()
                await file.close()
            else:
                async with files.open(f"/proc/self/fd/{self.log}", "r+b") as log:
                    await log.write(b"line\n")
                    await log.flush()


class _Direction:
    """The bytes of one direction: those that were sent are compared with those that arrive."""

    def __init__(self, counts: "Counter[str]") -> None:
        self.counts = counts
        self.sent = bytearray()
        self.arrived = 0
        self._times: deque[tuple[int, float]] = deque()

    def send(self, data: bytes) -> None:
        self.sent += data
        self._times.append((len(self.sent), time.monotonic()))

    def arrive(self, data: bytes) -> None:
        expected = self.sent[self.arrived : self.arrived + len(data)]
        wrong = sum(one != other for one, other in zip(data, expected, strict=False)) + len(data) - len(expected)
        self.arrived += len(data)
        self.counts += Counter(bytes=len(data), wrong=wrong)
        now = time.monotonic()
        while self._times and self._times[0][0] <= self.arrived:
            if now - self._times.popleft()[1] > _LATE_S:
                self.counts["late"] += len(data)

    @property
    def missing(self) -> int:
        return len(self.sent) - self.arrived


class _End:
    """A connection of the loop, and the socket at its other end.

    Args:
        life: of the loop.
        peer: the socket or pipe at the other end, non-blocking.
    """

    transport: Any = None

    def __init__(self, life: _Life, peer: Any = None) -> None:
        self.life, self.peer = life, peer
        self.there, self.back = _Direction(life.counts), _Direction(life.counts)
        self.lost = asyncio.get_running_loop().create_future()
        self._refused = b""

    def feed(self) -> None:
        """Send random bytes to the connection, unless its peer takes none now."""
        # A TLS socket wants to be given again what it refused.
        data = self._refused or self.life.chance.randbytes(self.life.chance.choice((1, 30, 100, 1000)))
        try:
            count = self.peer.send(data) if isinstance(self.peer, socket.socket) else self.peer.write(data) or 0
        except _NOT_NOW:
            self._refused = data
            return
        self._refused = b""
        self.there.send(data[:count])

    def collect(self) -> None:
        """Receive at the other end."""
        if not isinstance(self.peer, socket.socket):
            return
        try:
            while self.back.missing:
                self.back.arrive(self.peer.recv(10_000))
        except _NOT_NOW:
            pass

    def took(self, data: bytes) -> None:
        """Compare bytes that arrived, and send them back."""
        self.there.arrive(data)
        if isinstance(self.peer, socket.socket):
            self.back.send(data)
            self.answer(data)
        self.life.start()

    def answer(self, data: bytes) -> None:
        self.transport.write(data)

    @property
    def missing(self) -> int:
        return self.there.missing + self.back.missing

    async def close(self) -> None:
        self.peer.close()
        self.transport.close()
        await self.lost


class _Protocol(_End, asyncio.BaseProtocol):
    """The connection is a transport."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.life.start()

    def eof_received(self) -> None:
        self.life.start()

    def connection_lost(self, error: Exception | None) -> None:
        self.life.start()
        self.lost.set_result(error)


class _Stream(_Protocol, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.took(data)


class _Buffered(_Protocol, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> memoryview:
        self.life.start()
        # asyncio's TLS receives into slices of it, which of a bytearray would be copies.
        self.buffer = memoryview(bytearray(self.life.chance.choice((40, 4000))))
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.took(bytes(self.buffer[:nbytes]))


class _Datagrams(_Protocol, asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, address: Any) -> None:
        self.took(data)

    def answer(self, data: bytes) -> None:
        self.transport.sendto(data)


class _Sock(_End):
    """The connection is a socket, received from by one coroutine, which sends too."""

    def __init__(self, life: _Life, sock: socket.socket, peer: socket.socket) -> None:
        super().__init__(life, peer)
        self.sock = sock
        life.drive(self._receive())

    def answer(self, data: bytes) -> None:
        self.answers = data

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        stream = self.sock.type == socket.SOCK_STREAM
        while True:
            size = self.life.chance.choice((20, 2000)) if stream else 2000
            if self.life.chance.random() < 0.5:
                data = await loop.sock_recv(self.sock, size)
            else:
                buffer = bytearray(size)
                data = bytes(buffer[: await loop.sock_recv_into(self.sock, buffer)])
            if not data:
                break
            self.took(data)
            await loop.sock_sendall(self.sock, data)
        self.lost.set_result(None)

    async def close(self) -> None:
        if self.sock.type == socket.SOCK_STREAM:
            self.peer.shutdown(socket.SHUT_WR)
        else:
            self.peer.send(b"")
        await self.lost
        self.peer.close()
        self.sock.close()


async def _connect(life: _Life, kind: str) -> _End:
    loop = asyncio.get_running_loop()
    if kind == "tls":
        return await _connect_tls(life)
    if kind == "pipe":
        read, write = os.pipe()
        os.set_blocking(write, False)
        pipe = _Stream(life, os.fdopen(write, "wb", 0))
        await loop.connect_read_pipe(lambda: pipe, os.fdopen(read, "rb", 0))
        return pipe
    ours, peer = socket.socketpair(type=socket.SOCK_DGRAM if "datagram" in kind else socket.SOCK_STREAM)
    ours.setblocking(False)
    peer.setblocking(False)
    if kind.startswith("sock"):
        return _Sock(life, ours, peer)
    if kind == "datagram":
        return (await loop.create_datagram_endpoint(lambda: _Datagrams(life, peer), sock=ours))[1]
    make = life.chance.choice((_Stream, _Buffered))
    return (await loop.connect_accepted_socket(lambda: make(life, peer), ours))[1]


async def _connect_tls(life: _Life) -> _End:
    """The loop is the server; the client's handshake is made step by step."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    peer = client_context().wrap_socket(theirs, server_hostname="localhost", do_handshake_on_connect=False)
    make = life.chance.choice((_Stream, _Buffered))
    loop = asyncio.get_running_loop()
    accepting = loop.create_task(loop.connect_accepted_socket(lambda: make(life, peer), ours, ssl=server_context()))
    while True:
        await asyncio.sleep(0)
        try:
            peer.do_handshake()
        except ssl.SSLWantReadError:
            continue
        return (await accepting)[1]


async def _run(chance: random.Random, kinds: Sequence[str], total: "Counter[str]") -> None:
    life = _Life(chance)
    ends = [await _connect(life, chance.choice(kinds)) for _ in range(chance.randrange(2, 9))]
    life.ends, life.turns = ends, chance.randrange(300)
    for _ in range(chance.randrange(10, 150)):
        for _ in range(chance.randrange(1, 6)):
            chance.choice(ends).feed()
        await asyncio.sleep(0)
        chance.choice(ends).collect()
    deadline = time.monotonic() + _TIMEOUT_S
    while (any(end.missing for end in ends) or _operating(life, ends)) and time.monotonic() < deadline:
        for end in ends:
            end.collect()
        await asyncio.sleep(0.001)
    life.turns = 0
    life.counts["lost"] += sum(abs(end.missing) for end in ends)
    total.update(lives=1, connections=len(ends), eager=life.begun, **life.counts)
    assert not life.counts["wrong"] + life.counts["late"] + life.counts["lost"], life.counts
    async with asyncio.timeout(_TIMEOUT_S):
        for end in ends:
            await end.close()
        while life.ended < life.begun:
            await asyncio.sleep(0.001)
    os.close(life.log)
    assert await settle() == {}


def _operating(life: _Life, ends: list[_End]) -> bool:
    """Whether coroutines go on beside those that receive."""
    return life.begun - life.ended > sum(isinstance(end, _Sock) for end in ends)


_Options = Callable[[random.Random], dict[str, Any]]


def _tiny(chance: random.Random) -> dict[str, Any]:
    return {
        "without": frozenset(name for name in OPTIONAL if chance.random() < 0.1),
        "sq_entries": chance.choice((4, 64)),
        "cq_entries": chance.choice((8, 256)),
        "buffer_count": chance.choice((2, 8)),
        "buffer_size_bytes": chance.choice((64, 1024)),
        "buffer_count_max": chance.choice((8, 16)),
        "bulk_stream_count_max": chance.choice((0, 1)),
    }


def _default(chance: random.Random) -> dict[str, Any]:
    return {}


def _either(chance: random.Random) -> dict[str, Any]:
    return chance.choice((_tiny, _default))(chance)


def _live(kinds: Sequence[str], shape: _Options, name: str, chance: random.Random) -> None:
    """One loop's life."""
    failures: list[dict[str, Any]] = []
    options = {"sleep": chance.choice(("ring", "selector", "auto")), **shape(chance)}
    with asyncio.Runner(loop_factory=lambda: uringloop.new_event_loop(**options)) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: failures.append(context))
        try:
            runner.run(_run(chance, kinds, _totals.setdefault(name, Counter())))
        finally:
            assert not failures, failures


_totals: dict[str, "Counter[str]"] = {}

_SHAPES = {"default": _default, "tiny": _tiny}
#: In each part, connections of one sort have a few of the others beside them.
_ALL = (*_PLAIN, "tls", *_SOCK)
_KINDS = {"plain": _PLAIN * 3 + _ALL, "tls": ("tls",) * 9 + _ALL, "sock": _SOCK * 4 + _ALL}

PARTS: dict[str, Callable[[random.Random], None]] = {
    "eager": partial(_live, _ALL, _either, "eager"),
    **{
        name: partial(_live, kinds, options, name)
        for kind, kinds in _KINDS.items()
        for shape, options in _SHAPES.items()
        for name in [f"eager-{kind}-{shape}"]
    },
}


def report() -> list[str]:
    """Count, for each part that ran, lives, connections, eager coroutines, and bytes: all, wrong, late, lost."""
    names = ("lives", "connections", "eager", "bytes", "wrong", "late", "lost")
    return [f"{part}: " + ", ".join(f"{name} {total[name]}" for name in names) for part, total in _totals.items()]
