"""Use an installed package, far from the checkout: a server and its client, and what the package has beside code."""

import asyncio
import importlib.resources

import uringloop
from uringloop.ring import Ring


async def main() -> tuple[str, bytes]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"here and back")
        writer.write_eof()
        answer = await reader.read()
        writer.close()
    return type(asyncio.get_running_loop()).__name__, answer


assert importlib.resources.files("uringloop").joinpath("py.typed").is_file()
assert uringloop.run(main()) == ("EventLoop", b"here and back")
Ring(backend="epoll").close()
print(uringloop.__file__)
