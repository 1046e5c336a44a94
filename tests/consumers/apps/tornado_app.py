"""Tornado, whose IOLoop wraps the running loop."""

import asyncio
import signal

import tornado.iostream
import tornado.web

import uringloop
from tests.consumers.reporting import STATIC, events, report


class Loop(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write(report())


class Echo(tornado.web.RequestHandler):
    def post(self) -> None:
        self.write(self.request.body)


class SomeBytes(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write(bytes(int(self.get_query_argument("count"))))


class ServerSent(tornado.web.RequestHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        given = events(int(self.get_query_argument("count")))
        try:
            async for event in given:
                self.write(event)
                await self.flush()
        except tornado.iostream.StreamClosedError:
            await given.aclose()


async def main() -> None:
    app = tornado.web.Application(
        [("/loop", Loop), ("/echo", Echo), ("/bytes", SomeBytes), ("/events", ServerSent)],
        static_path=str(STATIC),
    )
    server = app.listen(0, "127.0.0.1")
    (listener,) = server._sockets.values()
    print("listening on", listener.getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.stop()
    await server.close_all_connections()


if __name__ == "__main__":
    uringloop.run(main())
