"""An asyncio event loop, and file I/O, on Linux io_uring, or on epoll(7) where io_uring is refused.

    import uringloop
    uringloop.run(main())

Each name is loaded when it is first asked for, so importing the package alone loads no event loop and no asyncio.

The import fails only in a checkout that was not built.  A loop can be made on every Linux; `is_available()` says
whether io_uring works there.  `RingUnavailableError` comes where io_uring was asked for; it says why and what to do.
"""

from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["EventLoop", "RingUnavailableError", "install", "is_available", "new_event_loop", "run"]

if TYPE_CHECKING:
    from .loop import EventLoop
    from .policy import EventLoopPolicy as EventLoopPolicy
    from .policy import install, new_event_loop, run
    from .ring import RingUnavailableError, is_available

#: The module that has a name.
_HOMES = {
    "EventLoop": "loop",
    "EventLoopPolicy": "policy",
    "RingUnavailableError": "ring",
    "install": "policy",
    "is_available": "ring",
    "new_event_loop": "policy",
    "run": "policy",
}
#: The modules that are attributes without an import of their own.
_MODULES = {"loop", "operations", "policy", "ring"}


def _not_built(module: str) -> ImportError:
    return ImportError(
        f"{__path__[0]} has no {module} built for this Python: install it, in a checkout with "
        "`python -m pip install -e .`",
        name=module,
    )


def _load(module: str) -> Any:
    try:
        return import_module(f".{module}", __name__)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(f"{__name__}."):
            raise
        raise _not_built(error.name) from None


if PathFinder.find_spec(f"{__name__}.scheduler", __path__) is None:
    raise _not_built(f"{__name__}.scheduler")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name, or a module, when it is first asked for."""
        if name in _MODULES:
            return _load(name)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_load(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        """Return the names of the package, also those that are not loaded yet."""
        return sorted({*globals(), *__all__, *_MODULES})
