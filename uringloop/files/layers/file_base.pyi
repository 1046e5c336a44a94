import asyncio

from typing_extensions import disjoint_base

from .lock import Lock

@disjoint_base
class FileBase:
    _loop: asyncio.AbstractEventLoop
    _closing: asyncio.Task[None] | None
    _is_closed: bool
    @property
    def _lock(self) -> Lock: ...
