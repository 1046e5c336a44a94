"""The ways to make uringloop asyncio's loop: `run()`, `new_event_loop()`, `install()`, the policy.

The argument `fallback` and its variable are from before the backend epoll(7), when asyncio's own loop took the place of
a refused io_uring.  They are translated into a choice of the backend.
"""

import asyncio
import functools
import sys
import warnings
from collections.abc import Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from .loop import EventLoop
from .ring import RingUnavailableError
from .ring.choosing import BACKEND_VARIABLE
from .ring.variables import variable

_FALLBACK_VARIABLE = "URINGLOOP_FALLBACK"
_NO_POLICIES = (
    "asyncio has no event loop policies in this Python; use uringloop.run(), or uringloop.new_event_loop as the "
    "loop_factory of asyncio.run() or asyncio.Runner"
)

#: Servers that take no notice of the policy, by the module that is on the stack then; the remedy of each.
_SERVERS = {
    "uvicorn.config": (
        "uvicorn makes the loop that its option names, and uringloop.install() does not change that; write: "
        "uvicorn --loop uringloop:new_event_loop"
    ),
    "hypercorn.config": (
        "hypercorn's workers do not run its configuration file, so uringloop.install() has no effect on them; "
        "call it in the application's module, or set workers = 0 first"
    ),
}
_TOO_LATE = (
    "uringloop.install() comes too late for the {} that runs already; give uringloop.new_event_loop to whatever makes "
    "that loop"
)

#: The packages whose code stands between a program and the making of a loop.
_NOT_CALLERS = {"asyncio", __name__.partition(".")[0]}

_T = TypeVar("_T")


def new_event_loop(*, fallback: bool | None = None, **options: Any) -> asyncio.AbstractEventLoop:
    """Make a new event loop.

    Args:
        fallback: deprecated; True is backend="auto", and False is backend="io_uring".
        options: those of `EventLoop`.

    Raises:
        RingUnavailableError: the backend is "io_uring", which cannot be used here.
        TypeError: both a backend and a fallback are given, or an option is unknown.
    """
    return EventLoop(**_with_backend(fallback, options))


def run(
    main: Coroutine[Any, Any, _T], *, debug: bool | None = None, fallback: bool | None = None, **options: Any
) -> _T:
    """Run a coroutine on a new event loop, as `asyncio.run`; options as for `new_event_loop`.

    Raises:
        RuntimeError: a loop runs in this thread already.
        RingUnavailableError: the backend is "io_uring", which cannot be used here.
    """
    _check_not_running()
    try:
        options = _with_backend(fallback, options)
        with asyncio.Runner(debug=debug, loop_factory=lambda: EventLoop(**options)) as runner:
            return runner.run(main)
    except RingUnavailableError:
        # The error tells; a warning of a coroutine that was never awaited would add nothing.
        main.close()
        raise


def _with_backend(fallback: bool | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, with the backend that the deprecated argument or variable asks for."""
    if fallback is not None:
        if "backend" in options:
            raise TypeError("give a backend, and not the deprecated fallback too")
        backend = "auto" if fallback else "io_uring"
        _warn(f'fallback= is deprecated, since a loop can be made everywhere: give backend="{backend}"')
        return {**options, "backend": backend}
    value = variable(_FALLBACK_VARIABLE)
    if value:
        backend = "io_uring" if value == "0" else "auto"
        _warn(f"{_FALLBACK_VARIABLE} is deprecated: give backend= to the loop, or set {BACKEND_VARIABLE}={backend}")
        if "backend" not in options and not variable(BACKEND_VARIABLE):
            return {**options, "backend": backend}
    return options


def _warn(message: str) -> None:
    """Warn of the first caller outside of asyncio and this package, which asyncio's runners and policies call."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_CALLERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, DeprecationWarning, stacklevel=level)


def _check_not_running() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("uringloop.run() cannot be called from a running event loop")


def install() -> None:
    """Make uringloop the loop of every `asyncio.run` and `asyncio.new_event_loop` from now on.

    It sets a policy, of which Python 3.14 warns; `run()` and a `loop_factory` need none.

    Where a server takes no notice of the policy, or another kind of loop runs already, a RuntimeWarning says so.

    Raises:
        RuntimeError: this asyncio has no policies any more.
    """
    if not _has_policies():
        raise RuntimeError(f"cannot install uringloop's policy: {_NO_POLICIES}")
    asyncio.set_event_loop_policy(_policy_class()())
    if (reason := _without_effect(sys._getframe(1))) is not None:
        warnings.warn(reason, RuntimeWarning, stacklevel=2)


def _without_effect(caller: FrameType) -> str | None:
    """Return why the loop of the program that installs will not be ours, as far as this can be known; else None."""
    frame: FrameType | None = caller
    while frame is not None:
        server = frame.f_globals.get("__name__")
        if server in _SERVERS:
            option = getattr(frame.f_locals.get("self"), "loop", "")
            fine = option == "none" or ":" in str(option) or caller.f_globals.get("workers") == 0
            return None if fine else _SERVERS[server]
        frame = frame.f_back
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return None if isinstance(running, EventLoop) else _TOO_LATE.format(type(running).__name__)


def _has_policies() -> bool:
    return hasattr(asyncio, "set_event_loop_policy")


@functools.cache
def _policy_class() -> "type[asyncio.AbstractEventLoopPolicy]":
    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """asyncio's default policy with uringloop's loops."""

        __qualname__ = "EventLoopPolicy"

        def _loop_factory(self) -> asyncio.AbstractEventLoop:
            return new_event_loop()

    return EventLoopPolicy


if TYPE_CHECKING:
    EventLoopPolicy = asyncio.DefaultEventLoopPolicy
else:

    def __getattr__(name: str) -> type:
        """Make `EventLoopPolicy` on demand: Python 3.14 deprecates its base, and a later one removes it."""
        if name != "EventLoopPolicy":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if not _has_policies():
            raise AttributeError(f"there is no {name}: {_NO_POLICIES}")
        return _policy_class()
