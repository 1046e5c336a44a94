"""Sanic, by its command line: in one process, or with workers that import this module again."""

import json

from sanic import Request, Sanic
from sanic.response import HTTPResponse, raw, text
from sanic.worker.manager import WorkerManager

import uringloop
from tests.consumers.reporting import STATIC, events, report

uringloop.install()

app = Sanic("application")
app.config.USE_UVLOOP = False
# In tenths of a second; a machine with other work starts no worker in the default.
WorkerManager.THRESHOLD = 3000
app.static("/static", STATIC)


@app.get("/loop")
async def loop(request: Request) -> HTTPResponse:
    return text(report())


@app.get("/workers")
async def workers(request: Request) -> HTTPResponse:
    """Return the states of the workers, after their number was changed where one is given."""
    if count := request.args.get("count"):
        request.app.m.scale(int(count))
    return text(json.dumps({name: state.get("state") for name, state in request.app.m.workers.items()}))


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
