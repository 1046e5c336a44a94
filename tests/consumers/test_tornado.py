"""Tornado: `uringloop.run(main())`; its IOLoop takes the running loop."""

from pathlib import Path

from tests.compat.libraries.processes import module, running

from .load import check_http


def test_http(backend: str, static: Path) -> None:
    command = module("tests.consumers.apps.tornado_app")
    with running(command, URINGLOOP_BACKEND=backend, CONSUMERS_STATIC=str(static)) as server:
        # Its streams read and write their sockets themselves, on the loop's readers.
        check_http(int(server.until_says(r"listening on (\d+)")[0]), backend, static, engine=False)
        assert server.stop() == 0
