from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class Descriptor:
    fd: int
    filename: Any
    owned: bool
    def __init__(self, fd: int, filename: Any = None, owned: bool = True) -> None: ...
    def close(self) -> None: ...
