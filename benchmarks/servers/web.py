"""Web servers as their users run them, apart from where the loop comes from."""

import asyncio
import importlib
import socket
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import web

from benchmarks.servers.listening import BACKLOG, keep, name

PLAINTEXT = b"Hello, World!"
TEN_KIB = b"0123456789abcdef" * 640
FILE = b"0123456789abcdef" * 4096
#: By mode of the server.
BODIES = {
    "uvicorn_plaintext": PLAINTEXT,
    "uvicorn_10k": TEN_KIB,
    "aiohttp": PLAINTEXT,
    "aiohttp_file": FILE,
    "starlette_file": FILE,
    "granian": PLAINTEXT,
}


def application(body: bytes) -> Any:
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())],
    }

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return answer


class Uvicorn(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set_result(name(self.servers[0].sockets[0]))


async def serve_uvicorn(address: str, served: Any) -> str:
    config = uvicorn.Config(
        served, port=int(address), http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    server = Uvicorn(config)
    keep(asyncio.get_running_loop().create_task(server.serve()))
    return await server.listening


async def uvicorn_plaintext(address: str) -> str:
    return await serve_uvicorn(address, application(PLAINTEXT))


async def uvicorn_10k(address: str) -> str:
    return await serve_uvicorn(address, application(TEN_KIB))


def file_path() -> str:
    """The path of a file that lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="uringloop-benchmark-")
    keep(folder)
    path = Path(folder.name, "file")
    path.write_bytes(FILE)
    return str(path)


async def starlette_file(address: str) -> str:
    from starlette.staticfiles import StaticFiles

    folder, _, name = file_path().rpartition("/")
    static = StaticFiles(directory=folder)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await static({**scope, "path": f"/{name}"}, receive, send)

    return await serve_uvicorn(address, answer)


async def granian(address: str) -> str:
    """By granian's server for programs that have a loop; its Rust half owns the sockets, and runs in threads."""
    constants: Any = importlib.import_module("granian.constants")
    embed: Any = importlib.import_module("granian.server.embed")
    port = int(address) or _free_port()
    server = embed.Server(
        application(PLAINTEXT),
        port=port,
        interface=constants.Interfaces.ASGINL,
        http=constants.HTTPModes.http1,
        backlog=BACKLOG,
        log_enabled=False,
    )
    keep(asyncio.get_running_loop().create_task(server.serve()))
    await _accepting(port)
    return str(port)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def _accepting(port: int) -> None:
    """Return when a server accepts connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return


async def aiohttp_file(address: str) -> str:
    path = file_path()

    async def answer(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return await serve_aiohttp(address, answer)


async def aiohttp(address: str) -> str:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=PLAINTEXT, content_type="text/plain")

    return await serve_aiohttp(address, answer)


async def serve_aiohttp(address: str, answer: Any) -> str:
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(address), backlog=BACKLOG).start()
    return str(runner.addresses[0][1])
