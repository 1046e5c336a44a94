from asyncio import Future
from typing import Any

from ..ring import Descriptor, Dispatcher
from ..ring.dispatcher import Awaited

class PositionalRead(Awaited):
    waiter: Future[int | OSError]
    def __init__(
        self,
        dispatcher: Dispatcher,
        waiter: Future[int | OSError],
        file: int | Descriptor,
        buffer: Any,
        offset: int,
    ) -> None: ...
