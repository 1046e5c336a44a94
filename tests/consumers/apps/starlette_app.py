"""Starlette, with its static files; granian serves it too."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tests.consumers.reporting import STATIC, events, report


async def loop(request: Request) -> Response:
    return PlainTextResponse(report())


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def some_bytes(request: Request) -> Response:
    return Response(bytes(int(request.query_params["count"])))


async def server_sent(request: Request) -> Response:
    return StreamingResponse(events(int(request.query_params["count"])), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/loop", loop),
        Route("/echo", echo, methods=["POST"]),
        Route("/bytes", some_bytes),
        Route("/events", server_sent),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
)
