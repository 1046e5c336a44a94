from typing import Any

from ..engine import Stream

SENT_ALL: int
SENT_MUCH: int
SOCKET_FULL: int
FILE_ENDS: int
NOT_CACHED: int

def send_cached(sock: int, file: int, offset: int, count: int | None) -> tuple[int, int]: ...
def read_cached(file: int, buffer: Any, offset: int) -> int: ...
def send_bytes(sock: int, data: Any) -> int: ...
def send_at_once(stream: Stream, file: Any, offset: Any, count: Any) -> int: ...
