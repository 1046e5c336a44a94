"""Quart, by `run_task`, which starts hypercorn."""

import asyncio
import signal
import sys

from quart import Quart, Response, request

import uringloop
from tests.consumers.reporting import STATIC, events, report

app = Quart(__name__, static_folder=str(STATIC), static_url_path="/static")


@app.get("/loop")
async def loop() -> Response:
    return Response(report())


@app.post("/echo")
async def echo() -> Response:
    return Response(await request.get_data())


@app.get("/bytes")
async def some_bytes() -> Response:
    return Response(bytes(request.args.get("count", type=int)))


@app.get("/events")
async def server_sent() -> Response:
    response = Response(events(request.args.get("count", type=int)), mimetype="text/event-stream")
    response.timeout = None
    return response


async def main(port: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await app.run_task(port=port, shutdown_trigger=ended.wait)


if __name__ == "__main__":
    uringloop.run(main(int(sys.argv[1])))
