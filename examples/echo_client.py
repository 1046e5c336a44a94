"""An echo client: many connections at once, each checks every byte that the server sends back.

    python examples/echo_client.py --connections 64 --messages 1000 --size 1024 --loop uringloop --port 9000

It goes with echo_server.py and ends with exit code 1 when anything came back wrong, or not at all.
"""

import argparse
import asyncio
import random
import sys
import time

from echo_server import LOOPS, loop_factory


async def converse(host: str, port: int, messages: int, size: int, seed: int) -> None:
    content = random.Random(seed)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for number in range(messages):
            message = content.randbytes(size)
            # No drain() here: the server may be unable to take more until this end reads what it sent back.
            writer.write(message)
            if await reader.readexactly(size) != message:
                raise ValueError(f"connection {seed}: message {number} came back changed")
    finally:
        writer.close()
        await writer.wait_closed()


async def exchange(options: argparse.Namespace) -> None:
    async with asyncio.TaskGroup() as tasks:
        for seed in range(options.connections):
            tasks.create_task(converse(options.host, options.port, options.messages, options.size, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description="A client for echo_server.py.")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--messages", type=int, default=1000, help="per connection")
    parser.add_argument("--size", type=int, default=1024, help="of a message, in bytes")
    parser.add_argument("--loop", default="uringloop", help=f"{', '.join(LOOPS)} or MODULE:FACTORY")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    started = time.perf_counter()
    try:
        with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
            runner.run(exchange(options))
    except* (OSError, EOFError, ValueError) as failures:
        sys.exit(f"failed: {failures.exceptions[0]}")
    seconds = time.perf_counter() - started
    messages = options.connections * options.messages
    print(f"{messages} messages in {seconds:.2f} s: {messages / seconds:.0f} messages/s")


if __name__ == "__main__":
    main()
