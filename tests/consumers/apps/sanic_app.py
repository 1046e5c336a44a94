"""Sanic, by its command line: in one process, or with workers that import this module again."""

from sanic import Request, Sanic
from sanic.response import HTTPResponse, raw, text

import uringloop
from tests.consumers.reporting import STATIC, events, report

uringloop.install()

app = Sanic("application")
app.config.USE_UVLOOP = False
app.static("/static", STATIC)


@app.get("/loop")
async def loop(request: Request) -> HTTPResponse:
    return text(report())


@app.post("/echo")
async def echo(request: Request) -> HTTPResponse:
    return raw(request.body)


@app.get("/bytes")
async def some_bytes(request: Request) -> HTTPResponse:
    return raw(bytes(int(request.args.get("count"))))


@app.get("/events")
async def server_sent(request: Request) -> None:
    response = await request.respond(content_type="text/event-stream")
    given = events(int(request.args.get("count")))
    try:
        async for event in given:
            await response.send(event)
        await response.eof()
    finally:
        await given.aclose()
