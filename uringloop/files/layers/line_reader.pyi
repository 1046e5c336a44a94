from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from .file_base import FileBase

_C = TypeVar("_C", bound=type)

class LineReader(FileBase):
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Coroutine[Any, Any, Any]: ...
    def next_call(self) -> Coroutine[Any, Any, Any]: ...

class DecodedLines(LineReader):
    chars: str
    used: int
    iterating: bool

def iterated(kind: _C) -> _C: ...
