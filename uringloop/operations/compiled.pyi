from typing import Any

from typing_extensions import disjoint_base

from ..ring import Descriptor
from .operation import FileOperation, Operation

@disjoint_base
class Nop(Operation):
    def __init__(self, answer: int = 0) -> None: ...

@disjoint_base
class Transfer(FileOperation):
    @property
    def moved_bytes(self) -> int: ...

class FixedTransfer(Transfer): ...

class Read(Transfer):
    def __init__(
        self, file: int | Descriptor, buffer: Any, offset: int = ..., start_bytes: int = 0, flags: int = 0
    ) -> None: ...

class Write(Transfer):
    def __init__(
        self, file: int | Descriptor, buffer: Any, offset: int = ..., start_bytes: int = 0, flags: int = 0
    ) -> None: ...

class ReadFixed(FixedTransfer):
    def __init__(self, file: int | Descriptor, buffer: Any, index: int, offset: int = ..., flags: int = 0) -> None: ...

class WriteFixed(FixedTransfer):
    def __init__(self, file: int | Descriptor, buffer: Any, index: int, offset: int = ..., flags: int = 0) -> None: ...
