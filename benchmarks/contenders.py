"""Who is compared: event loops by name, as far as they are installed, and the C servers that are the limit."""

import asyncio
import importlib
import importlib.util
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

LOOPS = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "rloop": "rloop:new_event_loop",
    "talyn": "talyn:Loop",
    "blazio": "blazio:new_event_loop",
    "uringloop": "uringloop:new_event_loop",
    "uringloop epoll": "benchmarks.contenders:new_epoll_loop",
}
#: aiofastnet's transports over loops: other contenders for questions about connections.
TRANSPORTS = {
    "aiofastnet uvloop": "benchmarks.contenders:new_fastnet_uvloop",
    "aiofastnet uringloop": "benchmarks.contenders:new_fastnet_uringloop",
}
#: Our loops while they measure, for the question of what that costs; none of the peers.
MEASURING = {
    "uringloop measured": "benchmarks.contenders:new_measured_loop",
    "uringloop epoll measured": "benchmarks.contenders:new_measured_epoll_loop",
}
#: Our loops with `uringloop.streams` in the place of asyncio's, for questions about streams; none of the peers.
STREAMS = {
    "uringloop streams": "benchmarks.contenders:new_loop_with_streams",
    "uringloop epoll streams": "benchmarks.contenders:new_epoll_loop_with_streams",
}
OURS = "uringloop"
#: The same loop on its other backend.
EPOLL = "uringloop epoll"
#: By the loop that does not measure, the one that does.
MEASURED = dict(zip((OURS, EPOLL), MEASURING, strict=True))
#: By the loop with asyncio's streams, the one with ours.
STREAMING = dict(zip((OURS, EPOLL), STREAMS, strict=True))
REFERENCE = "uvloop"
#: This project's other checkout, for a comparison of before and after, by the loop that it runs; none of the peers.
OTHERS = {OURS: "other", EPOLL: "other epoll"}

#: Names of sources in benchmarks/c.
C_SERVERS = {"C epoll": "epoll_server", "C io_uring": "uring_server"}
#: The same for files.
C_FILE_SERVERS = {"C sendfile": "sendfile_server"}


def installed() -> list[str]:
    return [name for name, loop in LOOPS.items() if importlib.util.find_spec(loop.partition(":")[0])]


def installed_transports() -> list[str]:
    return [name for name in TRANSPORTS if all(map(importlib.util.find_spec, name.split()))]


def with_streams(loops: Sequence[str]) -> list[str]:
    """Return the contenders with streams of ours, for the loops of ours among these."""
    return [STREAMING[loop] for loop in loops if loop in STREAMING]


def missing() -> list[str]:
    return sorted(LOOPS.keys() - set(installed()))


def factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    module, _, attribute = {**LOOPS, **TRANSPORTS, **MEASURING, **STREAMS}[name].partition(":")
    return cast(Callable[[], asyncio.AbstractEventLoop], getattr(importlib.import_module(module), attribute))


def new_epoll_loop() -> asyncio.AbstractEventLoop:
    import uringloop

    return uringloop.EventLoop(backend="epoll")


def new_loop_with_streams() -> asyncio.AbstractEventLoop:
    import uringloop
    from uringloop import streams

    streams.install()
    return uringloop.EventLoop()


def new_epoll_loop_with_streams() -> asyncio.AbstractEventLoop:
    from uringloop import streams

    streams.install()
    return new_epoll_loop()


def new_measured_loop() -> asyncio.AbstractEventLoop:
    import uringloop

    loop = uringloop.EventLoop()
    loop.share_statistics()
    return loop


def new_measured_epoll_loop() -> asyncio.AbstractEventLoop:
    import uringloop

    loop = uringloop.EventLoop(backend="epoll")
    loop.share_statistics()
    return loop


def new_fastnet_uvloop() -> asyncio.AbstractEventLoop:
    return _over_fastnet(REFERENCE)


def new_fastnet_uringloop() -> asyncio.AbstractEventLoop:
    return _over_fastnet(OURS)


def _over_fastnet(loop: str) -> asyncio.AbstractEventLoop:
    aiofastnet: Any = importlib.import_module("aiofastnet")
    return cast(asyncio.AbstractEventLoop, aiofastnet.patch_loop(factory(loop)()))


def run(name: str, main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=factory(name)) as runner:
        runner.run(main)
