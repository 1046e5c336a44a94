"""An asyncio event loop, and file I/O, on Linux io_uring.

    import uringloop
    uringloop.run(main())

Where io_uring is refused importing this does not fail: `is_available()` is False and making a loop raises
`RingUnavailableError`, which says why and what to do.  Only a checkout that was not built is refused.
"""

from typing import TYPE_CHECKING

try:
    from . import policy
    from .loop import EventLoop
    from .policy import install, new_event_loop, run
    from .ring import RingUnavailableError, is_available
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("uringloop."):
        raise
    raise ImportError(
        f"{__path__[0]} has no {error.name} built for this Python: install it, in a checkout with "
        "`python -m pip install -e .`",
        name=error.name,
    ) from None

__version__ = "0.1.0"

__all__ = ["EventLoop", "RingUnavailableError", "install", "is_available", "new_event_loop", "run"]

if TYPE_CHECKING:
    from .policy import EventLoopPolicy as EventLoopPolicy
else:

    def __getattr__(name: str) -> type:
        """What `policy` makes when it is asked for."""
        if name == "EventLoopPolicy":
            return policy.EventLoopPolicy
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
