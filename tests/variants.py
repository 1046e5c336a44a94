"""The loops that one test body runs on: asyncio's own, and uringloop in every shape that it may be given.

A test asks for its variants by name, with `pytest.mark.asyncio(loop_factories=...)`; without, it gets `USUAL`.

URINGLOOP_TEST_SHAPES says how many of them a run takes:

`all`    the default
`most`   other people's suites run once on the backend of epoll(7), where io_uring is refused, and what differs by the
         kernel's features sleeps in the ring alone
`few`    none that differs by the kernel, or by sizes, alone, and no control: for the other Pythons of `.ci/run`
`both`   those, and the backend on epoll(7): for tools/kernels

With URINGLOOP_TEST_BACKEND=epoll all of them have that backend, and so have the loops of children.

With URINGLOOP_TEST_WITHOUT=buffer_rings, or several features with commas between them, all of them do without: as if
the kernel had none.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any

import uringloop
from tests.children import BACKEND_VARIABLE
from uringloop.companion import attach

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

#: As on a kernel that has none of the newer ways: one SQE a receive, an accept, a poll.
_PLAIN = ("multishot_receive", "multishot_accept", "multishot_poll", "buffer_rings", "waiting_pipes", "epoll_wait")
#: Everything runs out all the time: both queues overflow, and the receive buffers are gone after two.
_TINY: dict[str, Any] = {
    "sq_entries": 4,
    "cq_entries": 8,
    "buffer_count": 2,
    "buffer_count_max": 2,
    "buffer_size_bytes": 64,
    "bulk_stream_count_max": 0,
}
#: A few bytes take many completions, so that those of several connections mix.
_SMALL: dict[str, Any] = {"buffer_count": 256, "buffer_size_bytes": 64, "bulk_stream_count_max": 0}


#: The backend of every loop here that names none.
_BACKEND = os.environ.get(BACKEND_VARIABLE)

#: Optional features that every loop here does without.
WITHOUT = tuple(filter(None, os.environ.get("URINGLOOP_TEST_WITHOUT", "").split(",")))


def _uringloop(**options: Any) -> LoopFactory:
    without = (*options.pop("without", ()), *WITHOUT)
    if _BACKEND:
        options.setdefault("backend", _BACKEND)
    return lambda: uringloop.EventLoop(without=without, **options)


def _with_companion_on_epoll() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop()
    attach(loop, "epoll")
    return loop


FACTORIES: dict[str, LoopFactory] = {
    "asyncio": asyncio.SelectorEventLoop,
    "auto": _uringloop(),
    "ring": _uringloop(sleep="ring"),
    "selector": _uringloop(sleep="selector"),
    "ring-plain": _uringloop(sleep="ring", without=_PLAIN),
    "selector-plain": _uringloop(sleep="selector", without=_PLAIN),
    "ring-interrupting": _uringloop(sleep="ring", without=("defer_taskrun",)),
    "selector-interrupting": _uringloop(sleep="selector", without=("defer_taskrun",)),
    "ring-small": _uringloop(sleep="ring", **_SMALL),
    "ring-tiny": _uringloop(sleep="ring", **_TINY),
    "selector-tiny": _uringloop(sleep="selector", **_TINY),
    "epoll": _uringloop(backend="epoll"),
    "epoll-ring": _uringloop(backend="epoll", sleep="ring"),
    "epoll-tiny": _uringloop(backend="epoll", **_TINY),
    "epoll-companion": _with_companion_on_epoll,
}

_SHAPES = os.environ.get("URINGLOOP_TEST_SHAPES", "all")
if _SHAPES not in ("all", "most", "few", "both"):
    raise ValueError(f"URINGLOOP_TEST_SHAPES is all, most, few or both, not {_SHAPES}")
#: Whether the backend on epoll(7) is tested, what else but the default differs by the kernel, and that backend once.
EPOLL = _SHAPES != "few"
KERNELS = _SHAPES in ("all", "most")
EPOLL_ONCE = _SHAPES in ("most", "both")
if not EPOLL:
    FACTORIES = {name: factory for name, factory in FACTORIES.items() if not name.startswith("epoll")}

#: asyncio's own loop shows that a body asks for what asyncio does.
_CONTROL = ("asyncio",) if KERNELS else ()

USUAL = (
    *_CONTROL,
    "ring",
    "selector",
    *(("ring-plain",) if KERNELS else ()),
    *(("selector-plain",) if KERNELS and not EPOLL_ONCE else ()),
    *(("epoll",) if EPOLL else ()),
)
_LEFT_OUT = {
    "epoll-companion",
    *(("epoll-ring", "selector-plain", "selector-interrupting") if EPOLL_ONCE else ()),
    *(
        (
            "asyncio",
            "ring-plain",
            "selector-plain",
            "ring-interrupting",
            "selector-interrupting",
            "ring-small",
            "selector-tiny",
        )
        if not KERNELS
        else ()
    ),
}
EVERY = tuple(name for name in FACTORIES if name not in _LEFT_OUT)
RINGS = tuple(name for name in EVERY if name != "asyncio")
#: For files: loops of ours, and companions beside asyncio's.
FILES = ("asyncio", "ring", "selector", *(("epoll", "epoll-companion") if EPOLL else ()))
#: Two ways to sleep, everything else at its best.
BOTH_SLEEPS = ("ring", "selector")
TINY = ("ring-tiny", "selector-tiny", *(("epoll-tiny",) if EPOLL else ()))
#: And the backend on epoll(7).
BACKENDS = (*BOTH_SLEEPS, *(("epoll",) if EPOLL else ()))
#: The shape that users get: enough where nothing sleeps, as for an argument that is refused.
DEFAULT = "auto"


def named(names: Iterable[str]) -> dict[str, LoopFactory]:
    """The factories of some variants, in this order."""
    return {name: FACTORIES[name] for name in names}
