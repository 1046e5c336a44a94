"""An echo server with a loop for each thread, all on one listening socket.

    python examples/threads_server.py --threads 4 --port 9000

The threads run at the same time on a Python without the GIL (`python3.14t`).  With the GIL they take turns: use
processes there, see docs/cores.md.  On SIGINT or SIGTERM the server stops accepting, gives open connections a moment to
end, and closes the rest.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from typing import cast

import uringloop

BACKLOG = 4096
GRACE_S = 2.0


@dataclass
class Worker:
    """One thread's part.  Nothing in it is shared but `stopping`, which other threads set by `call_soon_threadsafe`."""

    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    open: set[asyncio.Transport] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # the last of them was closed
    connections: int = 0
    chunks: int = 0


class Echo(asyncio.Protocol):
    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.worker.connections += 1
        self.worker.open.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.open.remove(self.transport)
        if not self.worker.open:
            self.worker.ended.set()

    def data_received(self, data: bytes) -> None:
        self.worker.chunks += 1
        self.transport.write(data)


async def serve(worker: Worker, listener: socket.socket) -> None:
    """Accept until the worker stops; then wait for the open connections, and close what is left of them."""
    # A descriptor of its own: each server closes the one that it has.
    server = await worker.loop.create_server(lambda: Echo(worker), sock=listener.dup(), backlog=BACKLOG)
    await worker.stopping.wait()
    server.close()
    worker.ended.clear()
    if worker.open:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.ended.wait(), GRACE_S)
    for transport in tuple(worker.open):
        transport.abort()
    await asyncio.sleep(0)


def run_thread(listener: socket.socket, workers: list[Worker], started: threading.Barrier) -> None:
    async def main() -> None:
        worker = Worker(asyncio.get_running_loop(), asyncio.Event())
        workers.append(worker)
        started.wait()
        await serve(worker, listener)

    with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
        runner.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo server with a loop for each thread.")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="one for each CPU by default")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes any free port")
    options = parser.parse_args()
    # The threads inherit it: the signals are for `sigwait` below.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    workers: list[Worker] = []
    with socket.create_server((options.host, options.port), backlog=BACKLOG) as listener:
        listener.setblocking(False)
        started = threading.Barrier(options.threads + 1)
        threads = [
            threading.Thread(target=run_thread, args=(listener, workers, started)) for _ in range(options.threads)
        ]
        for thread in threads:
            thread.start()
        started.wait()
        with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
        host, port = listener.getsockname()
        print(
            f"listening on {host}:{port} ({options.threads} threads, {'with' if with_gil else 'without'} the GIL)",
            flush=True,
        )
        signal.sigwait((signal.SIGINT, signal.SIGTERM))
        for worker in workers:
            worker.loop.call_soon_threadsafe(worker.stopping.set)
        for thread in threads:
            thread.join()
    served = " + ".join(str(worker.connections) for worker in workers)
    print(f"served {served} connections, {sum(worker.chunks for worker in workers)} chunks")


if __name__ == "__main__":
    main()
