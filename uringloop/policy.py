"""Ways to make uringloop asyncio's loop: `run()`, `new_event_loop()`, `install()`, the policy; and the fallback."""

import asyncio
import os
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

from .loop import EventLoop
from .ring import RingUnavailableError

FALLBACK_VARIABLE = "URINGLOOP_FALLBACK"

_T = TypeVar("_T")


def new_event_loop(*, fallback: bool | None = None, **options: Any) -> asyncio.AbstractEventLoop:
    """A new event loop on io_uring.

    Args:
        fallback: where io_uring is refused, give asyncio's own loop with a RuntimeWarning instead of raising; by
        default
            as the variable URINGLOOP_FALLBACK says.
        options: as for `EventLoop`.

    Raises:
        RingUnavailableError: io_uring cannot be used here and there is no fallback.
    """
    if fallback is None:
        fallback = os.environ.get(FALLBACK_VARIABLE, "0") not in ("", "0")
    try:
        return EventLoop(**options)
    except RingUnavailableError as error:
        if not fallback:
            raise
        warnings.warn(f"falling back to asyncio's own event loop: {error.strerror}", RuntimeWarning, stacklevel=2)
        return asyncio.SelectorEventLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, **options: Any) -> _T:
    """Run a coroutine on a new event loop, as `asyncio.run`; options as for `new_event_loop`.

    Raises:
        RuntimeError: a loop runs in this thread already.
        RingUnavailableError: io_uring cannot be used here and there is no fallback.
    """
    _check_not_running()
    try:
        with asyncio.Runner(debug=debug, loop_factory=lambda: new_event_loop(**options)) as runner:
            return runner.run(main)
    except RingUnavailableError:
        # Told by the error, not also by a warning that the coroutine was never awaited.
        main.close()
        raise


def _check_not_running() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("uringloop.run() cannot be called from a running event loop")


def install() -> None:
    """Make uringloop the loop of every `asyncio.run` and `asyncio.new_event_loop` from now on."""
    asyncio.set_event_loop_policy(EventLoopPolicy())


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """asyncio's default policy with uringloop's loops."""

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return new_event_loop()
