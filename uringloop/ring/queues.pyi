from typing import Any, TypeVar

from typing_extensions import disjoint_base

from .dispatcher import Dispatcher
from .features import Features

_Staged = TypeVar("_Staged", bound=StagedSqe)

@disjoint_base
class Completion:
    operation: Any
    user_data: int
    res: int
    flags: int
    @property
    def more(self) -> bool: ...
    @property
    def number(self) -> int | None: ...
    @property
    def buffer_id(self) -> int | None: ...
    def result(self) -> Any: ...

@disjoint_base
class StagedSqe:
    opcode: int
    user_data: int
    flags: int
    @property
    def features(self) -> Features: ...
    def prep(
        self,
        opcode: int,
        fd: int,
        addr: int = 0,
        length: int = 0,
        offset: int = 0,
        op_flags: int = 0,
        *,
        ioprio: int = 0,
        flags: int = 0,
        buf_index: int = 0,
        personality: int = 0,
        file_index: int = 0,
        addr3: int = 0,
    ) -> int: ...

@disjoint_base
class Queues(Dispatcher):
    def __init__(self, *args: Any) -> None: ...
    def stage_by_hand(self, kind: type[_Staged]) -> _Staged: ...
    def enter_for(self, wait_for: int, timeout_ns: int, signal_mask: int | None, enter_flags: int = 0) -> int: ...
    def take(self) -> Completion | None: ...
    @property
    def in_flight(self) -> int: ...
    def end_cancels(self) -> None: ...
    def let_overflow(self) -> None: ...
    def in_use(self) -> list[Any]: ...
    def unstage(self) -> list[Any]: ...
