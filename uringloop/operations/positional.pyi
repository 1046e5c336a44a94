from asyncio import Future
from typing import Any, Self

from typing_extensions import disjoint_base

from ..ring import Descriptor, Dispatcher
from ..ring.dispatcher import Awaited

@disjoint_base
class PositionalRead(Awaited):
    waiter: Future[int | OSError]
    def __new__(
        cls,
        dispatcher: Dispatcher,
        waiter: Future[int | OSError],
        file: int | Descriptor,
        buffer: Any,
        offset: int,
    ) -> Self: ...
