"""`Selector`: the loop's readers and writers as a selector of asyncio, for tools and for asyncio's own methods.

The eventfd that ends a sleep in the set is not among the selector's keys.
"""

import math
import selectors
from collections.abc import Callable
from typing import Any

from ..ring import Dispatcher
from .registry import Registry


class Selector(selectors.EpollSelector):
    """An EpollSelector whose keys are the entries of a `Registry`.

    Args:
        dispatcher: the loop's.

    Attributes:
        registry: the loop's readers and writers.
        serve: called by `select` instead of a sleep in the set, with a timeout in nanoseconds, -1 for ever.  The loop
            serves its ring there too.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self.registry = Registry(self.fileno(), dispatcher)
        self.serve: Callable[[int], list[tuple[selectors.SelectorKey, int]]] | None = None

    @property
    def _fd_to_key(self) -> dict[int, selectors.SelectorKey]:
        return {fd: selectors.SelectorKey(file, fd, events, data) for file, fd, events, data in self.registry.in_use()}

    @_fd_to_key.setter
    def _fd_to_key(self, keys: dict[int, selectors.SelectorKey]) -> None:
        """Ignore the empty dict of the base class."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor; data is the pair of handles, reader and writer, each of which may be None.

        Raises:
            ValueError: the events are none, or this is no descriptor.
            KeyError: it is watched already.
            OSError: the kernel refuses the descriptor.
        """
        if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        fd = self._fileobj_lookup(fileobj)  # type: ignore[attr-defined]  # see hooks.py
        if fd in self._fd_to_key:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self.registry.put(fileobj, events, data)
        return self.get_key(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor for other events, or with other handles.

        Raises:
            ValueError: the events are none.
            KeyError: it is not watched.
            OSError: the kernel refuses the descriptor, which is then watched no more.
        """
        if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        key = self._key(fileobj)
        self.registry.put(key.fileobj, events, data)
        return self._fd_to_key[key.fd]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch a descriptor no more.

        Raises:
            KeyError: it is not watched.
        """
        key = self._key(fileobj)
        self.registry.drop(key.fd)
        return key

    def _key(self, fileobj: Any) -> selectors.SelectorKey:
        try:
            return self._fd_to_key[self._fileobj_lookup(fileobj)]  # type: ignore[attr-defined]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep as the loop does, for a tool with ticks of its own, such as nest_asyncio.

        Args:
            timeout: at most this many seconds, never early; None sleeps for ever.

        Returns:
            No events: their handles are ready.
        """
        if self.serve is None:
            return []
        return self.serve(-1 if timeout is None else math.ceil(max(timeout, 0) * 1e9))

    def close(self) -> None:
        """Close the set."""
        self.registry.close()
        super().close()
