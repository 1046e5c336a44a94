"""The application of `asgi.py` once more, for aiohttp's server."""

import hashlib
import os
from collections.abc import AsyncIterator

from .asgi import CHUNK_BYTES, loop_and_process
from .needs import library

aiohttp = library("aiohttp")
web = aiohttp.web


async def loop(asked: "web.Request") -> "web.Response":
    return web.Response(text=loop_and_process())


async def echo(asked: "web.Request") -> "web.StreamResponse":
    answer = web.StreamResponse()
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
    await answer.prepare(asked)
    left = int(asked.query_string)
    while left > 0:
        await answer.write(bytes(min(left, CHUNK_BYTES)))
        left -= CHUNK_BYTES
    return answer


async def websocket(asked: "web.Request") -> "web.WebSocketResponse":
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(asked)
    async for message in socket:
        if message.data == "close":
            await socket.close(code=4000)
        elif message.type == aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def live(app: "web.Application") -> AsyncIterator[None]:
    print("application on", loop_and_process(), flush=True)
    yield
    print("application ends in", os.getpid(), flush=True)


def make() -> "web.Application":
    app = web.Application()
    app.add_routes(
        [
            web.get("/loop", loop),
            web.post("/echo", echo),
            web.post("/digest", digest),
            web.get("/bytes", some_bytes),
            web.get("/websocket", websocket),
        ]
    )
    app.cleanup_ctx.append(live)
    return app


app = make()
