"""The application of `asgi.py` once more, for aiohttp's server; the websocket is at /websocket.

A client that leaves is no error here: aiohttp would log a traceback, which the tests look for.
"""

import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator

from .asgi import CHUNK_BYTES, HALVES, loop_and_process, say, until_closed
from .needs import library

aiohttp = library("aiohttp")
web = library("aiohttp.web")


async def loop(asked: "web.Request") -> "web.Response":
    return web.Response(text=loop_and_process())


async def echo(asked: "web.Request") -> "web.StreamResponse":
    answer = web.StreamResponse()
    with contextlib.suppress(ConnectionError):
        await answer.prepare(asked)
        async for chunk in asked.content.iter_any():
            await answer.write(chunk)
    return answer


async def digest(asked: "web.Request") -> "web.Response":
    digest = hashlib.sha256()
    async for chunk in asked.content.iter_any():
        digest.update(chunk)
    return web.Response(text=digest.hexdigest())


async def some_bytes(asked: "web.Request") -> "web.StreamResponse":
    answer = web.StreamResponse()
    left = int(asked.query_string)
    with contextlib.suppress(ConnectionError):
        await answer.prepare(asked)
        while left > 0:
            await answer.write(bytes(min(left, CHUNK_BYTES)))
            left -= CHUNK_BYTES
    return answer


async def held(asked: "web.Request") -> "web.StreamResponse":
    answer = web.StreamResponse()
    await answer.prepare(asked)
    await answer.write(HALVES[0])
    await until_closed(int(asked.query_string))
    await answer.write(HALVES[1])
    return answer


async def websocket(asked: "web.Request") -> "web.WebSocketResponse":
    answer = web.WebSocketResponse(max_msg_size=0)
    await answer.prepare(asked)
    async for message in answer:
        if message.data == "close":
            await answer.close(code=4000)
        elif message.type == aiohttp.WSMsgType.TEXT:
            await answer.send_str(message.data)
        else:
            await answer.send_bytes(message.data)
    return answer


async def live(app: "web.Application") -> AsyncIterator[None]:
    say(f"application on {loop_and_process()}")
    yield
    say(f"application ends in {os.getpid()}")


def make() -> "web.Application":
    app = web.Application()
    app.add_routes(
        [
            web.get("/loop", loop),
            web.post("/echo", echo),
            web.post("/digest", digest),
            web.get("/bytes", some_bytes),
            web.get("/held", held),
            web.get("/websocket", websocket),
        ]
    )
    app.cleanup_ctx.append(live)
    return app


app = make()

if __name__ == "__main__":
    # As docs/libraries.md says.
    import uringloop

    with socket.create_server(("127.0.0.1", 0)) as listener:
        web.run_app(app, loop=uringloop.new_event_loop(), sock=listener, print=say)
