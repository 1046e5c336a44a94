"""A program for nest_asyncio, which changes asyncio for good.

python -m tests.compat.libraries.nesting LIBRARY LOOP CASE
"""

import asyncio
import importlib
import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.variants import FACTORIES
from uringloop import files

_DEPTH = 3


def running() -> Any:
    return asyncio.get_running_loop()


async def timers() -> None:
    loop = running()
    start = loop.time()
    fired: list[str] = []
    loop.call_later(0.003, fired.append, "later")
    loop.call_later(0.001, fired.append, "cancelled").cancel()
    await asyncio.sleep(0.004)
    assert loop.time() >= start + 0.004
    assert fired == ["later"]
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)
    except TimeoutError:
        return
    raise AssertionError("it did not time out")


async def sockets() -> None:
    loop = running()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        receiving = asyncio.ensure_future(loop.sock_recv(right, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(left, b"bytes")
        assert await receiving == b"bytes"
        readable = asyncio.Event()
        loop.add_reader(right, readable.set)
        left.send(b"more")
        await readable.wait()
        loop.remove_reader(right)


async def streams() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(200_000))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    body = os.urandom(200_000)
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(body)
        await writer.drain()
        assert await reader.read(-1) == body
        writer.close()
        await writer.wait_closed()


async def children() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    assert await process.communicate(b"child") == (b"child", None)
    assert process.returncode == 0


async def on_disk() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with files.open(Path(folder) / "file", "w") as file:
            await file.write("line\n" * 1000)
        async with files.open(Path(folder) / "file") as file:
            assert [line async for line in file] == ["line\n"] * 1000


async def threads() -> None:
    assert await asyncio.to_thread(lambda: 5) == 5
    woken = asyncio.Event()
    threading.Timer(0.002, running().call_soon_threadsafe, [woken.set]).start()
    await woken.wait()


async def everything(depth: int = _DEPTH) -> int:
    """Do all of the above, within a run within a run, and so on."""
    for part in (timers, sockets, streams, children, on_disk, threads):
        await part()
    assert asyncio.current_task() is not None
    await asyncio.gather(*[asyncio.sleep(0.001) for _ in range(10)])
    if depth > 0:
        beside = asyncio.ensure_future(streams())
        assert running().run_until_complete(everything(depth - 1)) == depth - 1
        await beside
    return depth


async def signals() -> None:
    """Have a signal wake the inner run, by asyncio's handler and by Python's own."""
    loop = running()
    caught = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, caught.set)
    threading.Timer(0.002, os.kill, [os.getpid(), signal.SIGUSR1]).start()
    loop.run_until_complete(caught.wait())
    loop.remove_signal_handler(signal.SIGUSR1)
    caught.clear()
    signal.signal(signal.SIGUSR1, lambda number, frame: loop.call_soon_threadsafe(caught.set))
    threading.Timer(0.002, os.kill, [os.getpid(), signal.SIGUSR1]).start()
    loop.run_until_complete(caught.wait())


class Nested(asyncio.Protocol):
    """Waits for the next bytes of its own connection where it is given the first."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.more = asyncio.Event()
        self.errors: list[dict[str, Any]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        if len(self.received) > 1:
            self.more.set()
            return
        self.transport.write(b"next")
        running().run_until_complete(self.more.wait())


async def one_connection() -> None:
    """Run the loop in `data_received`, where the inner run has bytes of the same connection."""
    loop = running()
    left, right = socket.socketpair()
    with right:
        right.setblocking(False)
        transport, protocol = await loop.create_connection(Nested, sock=left)
        right.send(b"first")
        assert await loop.sock_recv(right, 10) == b"next"
        right.send(b"second")
        await protocol.more.wait()
        assert protocol.received == [b"first", b"second"]
        transport.close()


async def written() -> None:
    """Have what an inner run wrote reach the peer, though the outer callback goes on without the loop."""
    left, right = socket.socketpair()
    transport, _ = await running().create_connection(asyncio.Protocol, sock=left)

    async def write() -> None:
        for number in range(20):
            transport.write(bytes([number]))

    running().run_until_complete(write())
    with right:
        right.settimeout(10)
        received = b""
        while len(received) < 20:
            received += right.recv(100)
        assert received == bytes(range(20))
    transport.close()


async def from_inside(library: Any, case: Any) -> None:
    library.apply()
    running().run_until_complete(case())
    asyncio.run(case())
    await case()


def main(name: str, loop_name: str, case_name: str) -> None:
    library = importlib.import_module(name)
    case = globals()[case_name]
    loop: Any = FACTORIES[loop_name]()
    loop.set_exception_handler(lambda _, context: os.write(2, f"unexpected: {context}\n".encode()))
    loop.run_until_complete(from_inside(library, case))
    # Now the outer run is the library's as well.
    loop.run_until_complete(case())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
