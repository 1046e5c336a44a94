from asyncio import Future
from typing import Any, Self

from typing_extensions import disjoint_base

from ..ring import Descriptor, Dispatcher
from ..ring.dispatcher import Awaited

@disjoint_base
class PositionalTransfer(Awaited):
    waiter: Future[int | OSError]
    @property
    def moved_bytes(self) -> int: ...
    @property
    def at_once(self) -> bool: ...
    def __new__(
        cls,
        dispatcher: Dispatcher,
        waiter: Future[int | OSError],
        file: int | Descriptor,
        buffer: Any,
        offset: int,
        writes: bool = False,
        at_once: bool = False,
    ) -> Self: ...
    def finish_now(self) -> None: ...
