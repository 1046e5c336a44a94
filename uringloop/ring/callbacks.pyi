from collections.abc import Iterator
from typing import Any

from typing_extensions import disjoint_base

from .dispatcher import Dispatcher

def callbacks(dispatcher: Dispatcher) -> Iterator[OutcomeCallback]: ...

@disjoint_base
class OutcomeCallback:
    __name__: str
    __qualname__: str
    @property
    def __self__(self) -> Any: ...
    @property
    def arguments(self) -> tuple[Any, ...]: ...
    def __call__(self, *arguments: Any) -> None: ...
