"""An extension of Jupyter's server that serves what the other applications here serve."""

from typing import Any

from tests.consumers.apps.tornado_app import Echo, Loop, ServerSent, SomeBytes


class Post(Echo):
    def check_xsrf_cookie(self) -> None:
        """Let clients without a cookie post."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    handlers = [("/loop", Loop), ("/echo", Post), ("/bytes", SomeBytes), ("/events", ServerSent)]
    server.web_app.add_handlers(".*", handlers)
