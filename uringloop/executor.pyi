import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, final

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

@final
class Call:
    @property
    def future(self) -> Call: ...
    def run(self) -> None: ...
    def cancel(self) -> bool: ...
    def set_exception(self, exception: BaseException) -> None: ...
    def __call__(self, waiter: asyncio.Future[Any] | None = None) -> None: ...

def run_in_executor(
    self: Any, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
) -> asyncio.Future[_T]: ...
