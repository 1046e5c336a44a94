"""The order and the arguments of the callbacks of stream protocols, in every path, as with asyncio."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.variants import BACKENDS, FACTORIES
from uringloop.tls.making import why_asyncio

from .outcomes import hearing
from .recorder import PROTOCOLS, connected
from .scripts import SCRIPTS

#: asyncio ends a connection twice that is closed in `resume_writing`, and fails the second time.
ENDED_TWICE = ("AttributeError", "'NoneType' object has no attribute 'close'")

KINDS = ("tcp", "unix", "tls")

#: Bytes that come after `close()` are dropped here, and fail the shutdown with asyncio (docs/asyncio.md).
DROPPED = [("connection_made",), ("reading", True), ("eof_received",), ("connection_lost", None)]


def play(name: str, kind: str, protocol: str, near_is_client: bool, variant: str) -> list[Any]:
    """Run a script; returns the near end's log, the far end's, and what the exception handler and the log heard."""
    loop = FACTORIES[variant]()
    near, far = PROTOCOLS[protocol](), PROTOCOLS[protocol]()
    client, server = (near, far) if near_is_client else (far, near)

    async def run() -> None:
        async with connected(kind, client, server, Path(folder)):
            await SCRIPTS[name](near, far)
            logs.extend(list(end.log) for end in (near, far) if end.compared)

    logs: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, hearing(loop) as told:
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()
    return [*logs, [entry for entry in told if entry[1] != ENDED_TWICE]]


expected = functools.cache(functools.partial(play, variant="asyncio"))


@pytest.mark.parametrize("variant", BACKENDS)
@pytest.mark.parametrize("near_is_client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_callbacks_come_as_with_asyncio(
    name: str, kind: str, protocol: str, near_is_client: bool, variant: str
) -> None:
    actual = play(name, kind, protocol, near_is_client, variant)
    if (name, kind) == ("closing_while_reading_is_paused", "tls") and not why_asyncio():
        assert actual == [DROPPED, []]
        return
    for mine, theirs in zip(actual, expected(name, kind, protocol, near_is_client), strict=True):
        assert mine == theirs
