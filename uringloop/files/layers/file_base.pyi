import asyncio

from .lock import Lock

class FileBase:
    _loop: asyncio.AbstractEventLoop
    _closing: asyncio.Task[None] | None
    _is_closed: bool
    @property
    def _lock(self) -> Lock: ...
