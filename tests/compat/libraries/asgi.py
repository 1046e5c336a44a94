"""An ASGI application without a framework: what the servers serve in these tests.

    GET /loop          the class of the loop and the process
    POST /echo         the body comes back, chunk by chunk, as it arrives
    POST /digest       SHA-256 of the body
    GET /bytes?N       N bytes, in chunks of 64 KiB
    GET /held?PORT     the first half, and the second once a connection to this port of localhost was closed
    websocket          every message comes back; "close" closes with code 4000

At its start it says which loop it runs on.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

CHUNK_BYTES = 64 * 1024
HALVES = b"first half, ", b"second half"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def loop_and_process() -> str:
    kind = type(asyncio.get_running_loop())
    return f"{kind.__module__}.{kind.__qualname__} {os.getpid()}"


def say(line: str) -> None:
    """In one piece: several processes have the same standard output."""
    os.write(1, f"{line}\n".encode())


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await _converse(receive, send)
    else:
        answer = {"/loop": _loop, "/echo": _echo, "/digest": _digest, "/bytes": _bytes, "/held": _held}[scope["path"]]
        await answer(scope, receive, send)


async def _live(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    say(f"application on {loop_and_process()}")
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    say(f"application ends in {os.getpid()}")
    await send({"type": "lifespan.shutdown.complete"})


async def _start(send: Send) -> None:
    headers = [(b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _loop(scope: Scope, receive: Receive, send: Send) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": loop_and_process().encode()})


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    await _start(send)
    more = True
    while more and (message := await receive())["type"] == "http.request":
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def _digest(scope: Scope, receive: Receive, send: Send) -> None:
    digest = hashlib.sha256()
    more = True
    while more and (message := await receive())["type"] == "http.request":
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    await _start(send)
    await send({"type": "http.response.body", "body": digest.hexdigest().encode()})


async def _bytes(scope: Scope, receive: Receive, send: Send) -> None:
    await _start(send)
    left = int(scope["query_string"])
    while left > CHUNK_BYTES:
        await send({"type": "http.response.body", "body": bytes(CHUNK_BYTES), "more_body": True})
        left -= CHUNK_BYTES
    await send({"type": "http.response.body", "body": bytes(left)})


async def _held(scope: Scope, receive: Receive, send: Send) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": HALVES[0], "more_body": True})
    await until_closed(int(scope["query_string"]))
    await send({"type": "http.response.body", "body": HALVES[1]})


async def until_closed(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def _converse(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000})
            return
        given = {name: message[name] for name in ("text", "bytes") if message.get(name) is not None}
        await send({"type": "websocket.send", **given})
