from typing import Any, Self, TypeVar

from typing_extensions import disjoint_base

from .file_base import FileBase

_C = TypeVar("_C", bound=type)

@disjoint_base
class LineReader(FileBase):
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Any: ...
    async def next_call(self) -> Any: ...

@disjoint_base
class DecodedLines(LineReader):
    chars: str
    used: int
    iterating: bool

def iterated(kind: _C) -> _C: ...
