"""The ways to make uringloop asyncio's loop: `run()`, `new_event_loop()`, `install()`, the policy; and the fallback."""

import asyncio
import functools
import os
import warnings
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .loop import EventLoop
from .ring import RingUnavailableError

FALLBACK_VARIABLE = "URINGLOOP_FALLBACK"
_NO_POLICIES = (
    "asyncio has no event loop policies in this Python; use uringloop.run(), or uringloop.new_event_loop as the "
    "loop_factory of asyncio.run() or asyncio.Runner"
)

_T = TypeVar("_T")


def new_event_loop(*, fallback: bool | None = None, **options: Any) -> asyncio.AbstractEventLoop:
    """Make a new event loop on io_uring.

    Args:
        fallback: if io_uring is refused, return asyncio's own loop with a RuntimeWarning instead of raising.  The
            variable URINGLOOP_FALLBACK gives the default.
        options: those of `EventLoop`.

    Raises:
        RingUnavailableError: io_uring cannot be used here, and no fallback is wanted.
    """
    try:
        return EventLoop(**options)
    except RingUnavailableError as error:
        if fallback is None:
            fallback = os.environ.get(FALLBACK_VARIABLE, "0") not in ("", "0")
        if not fallback:
            raise
        warnings.warn(f"falling back to asyncio's own event loop: {error.strerror}", RuntimeWarning, stacklevel=2)
        return asyncio.SelectorEventLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, **options: Any) -> _T:
    """Run a coroutine on a new event loop, as `asyncio.run`; options as for `new_event_loop`.

    Raises:
        RuntimeError: a loop runs in this thread already.
        RingUnavailableError: io_uring cannot be used here, and no fallback is wanted.
    """
    _check_not_running()
    try:
        with asyncio.Runner(debug=debug, loop_factory=lambda: new_event_loop(**options)) as runner:
            return runner.run(main)
    except RingUnavailableError:
        # The error tells; a warning of a coroutine that was never awaited would add nothing.
        main.close()
        raise


def _check_not_running() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("uringloop.run() cannot be called from a running event loop")


def install() -> None:
    """Make uringloop the loop of every `asyncio.run` and `asyncio.new_event_loop` from now on.

    It sets a policy, of which Python 3.14 warns; `run()` and a `loop_factory` need none.

    Raises:
        RuntimeError: this asyncio has no policies any more.
    """
    if not _has_policies():
        raise RuntimeError(f"cannot install uringloop's policy: {_NO_POLICIES}")
    asyncio.set_event_loop_policy(_policy_class()())


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
