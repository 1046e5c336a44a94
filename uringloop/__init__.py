"""An asyncio event loop, and file I/O, on Linux io_uring.

    import uringloop
    uringloop.run(main())

Importing this module never fails: where io_uring is refused, `is_available()` is False and making a loop raises
`RingUnavailableError`, which says why and what to do.
"""

from .loop import EventLoop
from .policy import EventLoopPolicy, install, new_event_loop, run
from .ring import RingUnavailableError, is_available

__version__ = "0.1.0"

__all__ = ["EventLoop", "EventLoopPolicy", "RingUnavailableError", "install", "is_available", "new_event_loop", "run"]
