"""docs/from-uvloop.md's rows: uvloop as it is said to be, and this loop beside asyncio's."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import uringloop
from tests.compat.libraries.needs import library

uvloop = library("uvloop")
# libuv keeps the pipe for signals that its first loop makes.
uvloop.new_event_loop().close()
FACTORIES = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop, "uringloop": uringloop.new_event_loop}


@pytest.fixture(params=FACTORIES)
def name(request: pytest.FixtureRequest) -> str:
    loop: str = request.param
    return loop


def run(name: str, main: Callable[[], Any]) -> Any:
    with asyncio.Runner(loop_factory=FACTORIES[name]) as runner:
        return runner.run(main())


def test_the_class(name: str) -> None:
    async def main() -> bool:
        return isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)

    assert run(name, main) == (name != "uvloop")


def test_short_timers(name: str) -> None:
    """A timer of 0.3 ms is due when its handle says so.  uvloop's handle says so too, but its sleep ends at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        timer = loop.call_later(0.0003, print)
        assert before + 0.0003 <= timer.when() <= loop.time() + 0.0003
        timer.cancel()

    async def ends_at_once() -> None:
        sleeping = asyncio.ensure_future(asyncio.sleep(0.0003))
        for _ in range(3):
            await asyncio.sleep(0)
        assert sleeping.done()

    run(name, ends_at_once if name == "uvloop" else main)


def test_sockets(name: str) -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
            transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
            transport.close()
            return [type(each).__name__ for each in (server.sockets[0], transport.get_extra_info("socket"))]

    assert run(name, main) == ["PseudoSocket" if name == "uvloop" else "TransportSocket"] * 2


def test_a_refused_connection(name: str) -> None:
    async def main() -> str:
        with socket.socket() as sock:
            # Bound, and without a listener.
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError) as refused:
                await asyncio.get_running_loop().create_connection(asyncio.Protocol, *sock.getsockname())
        return str(refused.value.strerror)

    assert run(name, main).startswith("Connection refused" if name == "uvloop" else "Connect call failed ('127.0.0.1'")


def test_the_popen_of_a_child(name: str) -> None:
    async def main() -> Any:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            asyncio.SubprocessProtocol, sys.executable, "-S", "-c", "", stdin=None, stdout=None, stderr=None
        )
        popen = transport.get_extra_info("subprocess")
        await transport._wait()  # type: ignore[attr-defined]
        transport.close()
        return popen

    assert isinstance(run(name, main), subprocess.Popen) == (name != "uvloop")


def test_a_timer_at_nan(name: str) -> None:
    async def main() -> str:
        try:
            asyncio.get_running_loop().call_later(float("nan"), print).cancel()
        except ValueError as error:
            return str(error)
        return ""

    told = {"uvloop": "cannot convert float NaN to integer", "asyncio": "", "uringloop": "a timer cannot be due at NaN"}
    assert run(name, main) == told[name]
