"""FastAPI, with a dependency, a function that runs in a thread, static files and sse-starlette's events."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from sse_starlette import EventSourceResponse

from tests.consumers.reporting import STATIC, numbers, report

app = FastAPI()
app.mount("/static", StaticFiles(directory=STATIC))


async def body(request: Request) -> bytes:
    return await request.body()


@app.get("/loop")
async def loop() -> Response:
    return Response(report())


@app.post("/echo")
async def echo(body: Annotated[bytes, Depends(body)]) -> Response:
    return Response(body)


@app.get("/bytes")
def some_bytes(count: int) -> Response:
    return Response(bytes(count))


async def events(count: int) -> AsyncIterator[dict[str, int]]:
    async for number in numbers(count):
        yield {"data": number}


@app.get("/events")
async def server_sent(count: int) -> Response:
    return EventSourceResponse(events(count), sep="\n")
