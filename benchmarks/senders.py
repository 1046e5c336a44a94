"""A load generator that is a contender's loop itself: datagrams to a server that counts them.

    python -m benchmarks.senders --loop uvloop -a 40001 -s 1200 -t 1 -w 0.2

Its options and output are those of the programs in `benchmarks/c`.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from typing import Any

from benchmarks import contenders
from benchmarks.servers.datagrams import COUNT_BYTES, QUESTION, content

#: Datagrams for each turn of the loop.
AT_ONCE = 32
ANSWER_TIMEOUT_S = 0.05
ATTEMPTS = 60


class Asking(asyncio.DatagramProtocol):
    transport: Any

    def __init__(self) -> None:
        self.answers: asyncio.Queue[int] = asyncio.Queue()
        self.may_write = asyncio.Event()
        self.may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) == COUNT_BYTES:
            self.answers.put_nowait(int.from_bytes(data, "big"))

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()


async def count(asking: Asking) -> int:
    """Return the number of datagrams that arrived; a full socket loses questions too."""
    while not asking.answers.empty():
        asking.answers.get_nowait()
    for _ in range(ATTEMPTS):
        asking.transport.sendto(QUESTION)
        try:
            return await asyncio.wait_for(asking.answers.get(), ANSWER_TIMEOUT_S)
        except TimeoutError:
            pass
    raise SystemExit("the server does not answer")


async def send(asking: Asking, data: bytes, seconds: float) -> int:
    sendto, sent, end = asking.transport.sendto, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(AT_ONCE):
            sendto(data)
        sent += AT_ONCE
        await asyncio.sleep(0)
        if not asking.may_write.is_set():
            await asking.may_write.wait()
    return sent


def busy_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def main(options: argparse.Namespace) -> None:
    _, asking = await asyncio.get_running_loop().create_datagram_endpoint(Asking, remote_addr=("127.0.0.1", options.a))
    data = content(options.s)
    await send(asking, data, options.w)
    before = await count(asking)
    print("begin", file=sys.stderr, flush=True)
    began, busy_before_s = time.monotonic(), busy_s()
    sent = await send(asking, data, options.t)
    arrived = await count(asking) - before
    took_s = time.monotonic() - began
    busy = (busy_s() - busy_before_s) / took_s
    print("end", file=sys.stderr, flush=True)
    lost_percent = 100 * (1 - arrived / sent)
    figures = {"messages": arrived, "rate": arrived / took_s, "lost_percent": lost_percent, "load_busy": busy}
    print(json.dumps(figures))
    asking.transport.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Datagrams to a server that counts them.")
    parser.add_argument("--loop", choices=contenders.LOOPS, required=True)
    parser.add_argument("-a", type=int, required=True, help="the server's port")
    parser.add_argument("-s", type=int, default=1200, help="bytes of a datagram")
    parser.add_argument("-t", type=float, default=1.0, help="seconds that are measured")
    parser.add_argument("-w", type=float, default=0.2, help="seconds before")
    chosen = parser.parse_args()
    contenders.run(chosen.loop, main(chosen))
