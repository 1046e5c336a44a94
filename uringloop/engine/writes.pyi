from typing import TypeVar

_Class = TypeVar("_Class", bound=type[StreamWrites])

def keeps_stream(cls: _Class) -> _Class: ...

class StreamWrites:
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
