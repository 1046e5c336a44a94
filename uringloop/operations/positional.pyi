from asyncio import Future
from typing import Any

from ..ring import Dispatcher
from ..ring.dispatcher import Awaited

class PositionalRead(Awaited):
    waiter: Future[int | OSError]
    def __init__(
        self, dispatcher: Dispatcher, waiter: Future[int | OSError], fd: int, buffer: Any, offset: int
    ) -> None: ...
