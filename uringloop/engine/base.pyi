from collections.abc import Callable
from typing import Any, Self

from typing_extensions import disjoint_base

from ..ring import Dispatcher, LoopRing

@disjoint_base
class EngineBase:
    owner_thread: int | None
    def __new__(
        cls,
        loop: Any,
        dispatcher: Dispatcher,
        transports: dict[int, Any],
        leftovers: Any,
        options: Any,
    ) -> Self: ...
    @property
    def loop(self) -> Any: ...
    @property
    def call_soon(self) -> Callable[..., object]: ...
    @property
    def leftovers(self) -> Any: ...
    @property
    def features(self) -> frozenset[str]: ...
    @property
    def dispatcher(self) -> Dispatcher: ...
    @property
    def transports(self) -> dict[int, Any]: ...
    @property
    def has_buffers(self) -> bool: ...
    def use_ring(self, ring: LoopRing) -> None: ...
