"""One server in one process on one loop, which says where it listens when it is ready.

python -m benchmarks.servers --loop uvloop --mode protocol --at 0
"""

import argparse
import asyncio
import importlib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from benchmarks import contenders

#: The module of each: the mode is the name of a function there, which takes where to listen and gives where it does.
MODES = {
    "protocol": "echo",
    "buffered": "echo",
    "streams": "echo",
    "sock": "echo",
    "datagrams": "echo",
    "counting": "datagrams",
    "tls": "echo",
    "tls_short": "echo",
    "short": "echo",
    "short_given": "echo",
    "sink": "bulk",
    "flood": "bulk",
    "source": "bulk",
    "tls_sink": "bulk",
    "tls_source": "bulk",
    "sendfile": "bulk",
    "http": "http",
    "https": "http",
    "uvicorn_plaintext": "web",
    "uvicorn_10k": "web",
    "aiohttp": "web",
    "aiohttp_file": "web",
    "starlette_file": "web",
    "granian": "web",
}


async def serve(listening: Awaitable[str]) -> None:
    print(f"listening at {await listening}", flush=True)
    await asyncio.get_running_loop().create_future()


def compute() -> None:
    number = 0
    while True:
        number = (number * 1103515245 + 12345) % 2147483648


def main() -> None:
    parser = argparse.ArgumentParser(description="A server to be loaded.")
    loops = [*contenders.LOOPS, *contenders.TRANSPORTS, *contenders.MEASURING, *contenders.STREAMS]
    parser.add_argument("--loop", choices=loops, required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--at", default="0", metavar="PORT_OR_PATH")
    parser.add_argument("--file", type=Path, help="what is sent, and expected, by those that echo nothing")
    parser.add_argument("--busy", action="store_true", help="beside a thread that computes in Python without end")
    options = parser.parse_args()
    if options.busy:
        threading.Thread(target=compute, daemon=True).start()
    module = importlib.import_module(f"benchmarks.servers.{MODES[options.mode]}")
    mode = cast(Callable[..., Awaitable[str]], getattr(module, options.mode))
    contenders.run(options.loop, serve(mode(options.at, options.file) if options.file else mode(options.at)))


if __name__ == "__main__":
    main()
