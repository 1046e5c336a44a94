"""Hostile peers of TLS connections: a peer says random things, and breaks some of them.

The peer is an `SSLObject` on a bare socket.  It sends records of all sizes, floods of tiny ones, changes of its key,
attempts to renegotiate, alerts and goodbyes, cut at random places.  It may corrupt, drop, repeat and insert bytes, and
end within anything.  The bytes that arrive must be the beginning of those that it encrypted, and all of them where it
broke nothing.
"""

import _ssl
import asyncio
import contextlib
import ctypes
import functools
import random
import socket
import ssl
from collections import Counter
from typing import Any

import uringloop
from tests.housekeeping import settle
from tests.tls import CERTIFICATE

_TIMEOUT_S = 10
_HANDSHAKE_TIMEOUT_S = 0.5
#: OpenSSL's option, which `ssl` has no name for.
_ALLOW_CLIENT_RENEGOTIATION = 1 << 8
_SIZES_BYTES = (1, 2, 30, 1000, 16384, 16385, 60_000)
_ENDED = (ssl.SSLError, ConnectionError, TimeoutError)
#: The logged ends of connections.
_MESSAGES = ("Fatal error on SSL protocol", "Fatal error on transport", "SSL handshake failed")

counts: Counter[str] = Counter()


@functools.cache
def _contexts(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server and a client."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=CERTIFICATE)
    server.load_cert_chain(CERTIFICATE)
    server.options |= _ALLOW_CLIENT_RENEGOTIATION
    for context in (server, client):
        context.minimum_version = context.maximum_version = version
    return server, client


class _State:
    """The state that a connection's protocols share, of which one may take the place of another."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.transport: Any = None
        self.received, self.sent = bytearray(), bytearray()
        self.closed = False
        self.lost = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.lost.done()

    def act(self) -> None:
        """Do something to the transport, or nothing; asyncio's fails in calls after its second close."""
        if self.closed:
            return
        loop, transport = asyncio.get_running_loop(), self.transport
        deeds = ("nothing", "write", "lines", "pause", "swap", "close", "abort")
        deed = self.chance.choices(deeds, (60, 40, 10, 10, 5, 1, 1))[0]
        if deed in ("write", "lines"):
            data = self.chance.randbytes(self.chance.choice(_SIZES_BYTES))
            self.sent += data
            if deed == "write":
                transport.write(data)
            else:
                transport.writelines([data[:1], bytearray(data[1:])])
        elif deed == "pause":
            transport.pause_reading()
            loop.call_later(self.chance.choice((0, 0.001)), transport.resume_reading)
        elif deed == "swap":
            transport.set_protocol(_make(self))
        elif deed in ("close", "abort"):
            self.closed = True
            getattr(transport, deed)()


class _Protocol(asyncio.BaseProtocol):
    """The end on the loop, which does random things in its callbacks."""

    def __init__(self, state: _State) -> None:
        self.state = state

    def connection_made(self, transport: Any) -> None:
        self.state.transport = transport

    def took(self, data: bytes) -> None:
        self.state.received += data
        self.state.act()

    def pause_writing(self) -> None:
        self.state.act()

    def resume_writing(self) -> None:
        self.state.act()

    def eof_received(self) -> None:
        self.state.act()

    def connection_lost(self, error: Exception | None) -> None:
        assert error is None or isinstance(error, _ENDED), error
        self.state.lost.set_result(error)


class _Bytes(_Protocol, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.took(data)


class _Buffered(_Protocol, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> memoryview:
        self.buffer = memoryview(bytearray(self.state.chance.choice((1, 100, 5000, 70_000))))
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.took(bytes(self.buffer[:nbytes]))


def _make(state: _State) -> _Protocol:
    return state.chance.choice((_Bytes, _Buffered))(state)


class _Peer:
    """The other end, by hand."""

    def __init__(self, chance: random.Random, sock: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        self.chance, self.sock = chance, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, name)
        self.encrypted, self.received = bytearray(), bytearray()
        #: It sent bytes that no honest peer sends, after which bytes may be lost.
        self.broke = False
        self.said_goodbye = False

    async def send(self, data: bytes) -> None:
        """Send bytes in random pieces."""
        cuts = sorted(self.chance.randrange(len(data) + 1) for _ in range(self.chance.choice((0, 0, 1, 3))))
        for first, last in zip([0, *cuts], [*cuts, len(data)], strict=True):
            await asyncio.get_running_loop().sock_sendall(self.sock, data[first:last])
            if self.chance.random() < 0.5:
                await asyncio.sleep(0)

    def receive(self) -> bool:
        """Take all that has come; return False at the end."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLError):
            while some := self.tls.read(1 << 16):
                self.received += some
        return bool(data)

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(self.broken(self.outgoing.read(), 0.05))
                data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
                if not data:
                    raise ConnectionResetError from None
                self.incoming.write(data)
            else:
                return await self.send(self.outgoing.read() + self.something())

    def write(self, data: bytes) -> bytes:
        try:
            count = self.tls.write(data)
        except ssl.SSLError:
            return b""  # it waits for the other end's part of a renegotiation, or is at its end
        self.encrypted += data[:count]
        return self.outgoing.read()

    def change(self, function: str, *arguments: int) -> bytes:
        """Call a function of OpenSSL on the SSL of the object; return the records that it makes."""
        # Behind the object's head and its socket.
        place = object.__basicsize__ // ctypes.sizeof(ctypes.c_void_p) + 1
        wrapped: Any = self.tls
        tls = ctypes.c_void_p(ctypes.cast(id(wrapped._sslobj), ctypes.POINTER(ctypes.c_void_p))[place])
        getattr(ctypes.CDLL(_ssl.__file__), function)(tls, *arguments)
        with contextlib.suppress(ssl.SSLError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        records = self.outgoing.read()
        self.said_goodbye |= len(records) > 0
        return records

    async def talk(self, state: _State) -> None:
        """Say random things to the end, or until the connection is at its own."""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await self.shake_hands()
            for _ in range(self.chance.randrange(30)):
                await self.send(self.broken(self.something(), 0.03))
                self.receive()
                await self.send(self.outgoing.read())
                if self.chance.random() < 0.3 and state.is_open:
                    state.act()
            if self.chance.random() < 0.7:
                await self.send(self.goodbye())
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def something(self) -> bytes:
        """Return records of one sort."""
        kind = self.chance.choices(
            ("record", "tiny", "keys", "renegotiate", "goodbye", "alert"), (60, 15, 10, 10, 3, 2)
        )[0]
        counts[kind] += 1
        if kind == "record":
            return self.write(self.chance.randbytes(self.chance.choice(_SIZES_BYTES)))
        if kind == "tiny":
            return b"".join(self.write(b"t") for _ in range(self.chance.choice((10, 300))))
        if kind == "keys" and self.tls.version() == "TLSv1.3":
            times = self.chance.choice((1, 50))
            return b"".join(self.change("SSL_key_update", self.chance.randrange(2)) for _ in range(times))
        if kind == "renegotiate" and self.tls.version() == "TLSv1.2":
            self.broke = True  # OpenSSL refuses bytes that are under way while it renegotiates
            return self.change("SSL_renegotiate")
        if kind == "goodbye":
            return self.goodbye()
        if kind == "alert":
            self.broke = True
            return bytes((21, 3, 3, 0, 2, self.chance.choice((1, 2)), self.chance.choice((0, 10, 90, 100))))
        return b""

    def broken(self, data: bytes, likely: float) -> bytes:
        """Return the bytes, or others in their place."""
        if not data or self.chance.random() >= likely:
            return data
        self.broke = True
        place, count = self.chance.randrange(len(data)), self.chance.choice((1, 5, 100))
        kind = self.chance.choice(("corrupted", "dropped", "inserted", "repeated", "truncated"))
        counts[kind] += 1
        if kind == "corrupted":
            return data[:place] + bytes((data[place] ^ self.chance.randrange(1, 256),)) + data[place + 1 :]
        if kind == "dropped":
            return data[:place] + data[place + count :]
        if kind == "inserted":
            return data[:place] + self.chance.randbytes(count) + data[place:]
        return data + data if kind == "repeated" else data[:place]


async def _meet(chance: random.Random) -> None:
    """One connection."""
    loop = asyncio.get_running_loop()
    version = chance.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
    server, client = _contexts(version)
    server_side = chance.random() < 0.7
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    peer = _Peer(chance, theirs, client if server_side else server, not server_side)
    state = _State(chance)
    within: dict[str, Any] = {"ssl_handshake_timeout": _HANDSHAKE_TIMEOUT_S, "ssl_shutdown_timeout": _TIMEOUT_S}
    if server_side:
        connecting: Any = loop.connect_accepted_socket(lambda: _make(state), ours, ssl=server, **within)
    else:
        name = "localhost"
        connecting = loop.create_connection(lambda: _make(state), sock=ours, ssl=client, server_hostname=name, **within)
    task = loop.create_task(connecting)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await peer.talk(state)
    except TimeoutError:
        raise AssertionError("the connection reads no more") from None
    async with asyncio.timeout(_TIMEOUT_S):
        while peer.receive() and not (task.done() and (task.exception() or state.lost.done())):
            await asyncio.sleep(0)
        theirs.close()
        with contextlib.suppress(*_ENDED):
            await task
        if state.transport is not None:
            await state.lost
    _check(state, peer)


def _check(state: _State, peer: _Peer) -> None:
    counts.update(connections=1, bytes=len(state.received), whole=not peer.broke)
    assert peer.encrypted.startswith(state.received), "bytes arrived that were not sent"
    assert state.sent.startswith(peer.received), "bytes came back that were not sent"
    if not peer.broke and not state.closed and peer.said_goodbye and state.transport is not None:
        assert len(state.received) == len(peer.encrypted), f"bytes did not arrive: {state.lost.result()}"


async def _life(chance: random.Random) -> None:
    await asyncio.gather(*(_meet(random.Random(chance.random())) for _ in range(chance.randrange(1, 6))))
    assert await settle() == {}


def run(chance: random.Random) -> None:
    """One loop's life."""
    failures: list[dict[str, Any]] = []

    def failed(_: object, context: dict[str, Any]) -> None:
        if context["message"] not in _MESSAGES or not isinstance(context["exception"], _ENDED):
            failures.append(context)

    options: dict[str, Any] = {
        "buffer_count": chance.choice((2, 16)),
        "buffer_size_bytes": chance.choice((64, 4096, 32768)),
        "bulk_stream_count_max": chance.choice((0, 64)),
    }
    with asyncio.Runner(loop_factory=lambda: uringloop.new_event_loop(**options)) as runner:
        runner.get_loop().set_exception_handler(failed)
        runner.run(_life(chance))
    assert not failures, failures


def report() -> list[str]:
    """Count the connections, those in which the peer broke nothing, the bytes that arrived, and the peers' deeds."""
    return [f"tls: {', '.join(f'{name} {count}' for name, count in counts.items())}"] if counts else []
