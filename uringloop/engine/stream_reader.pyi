from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class FedReader:
    _loop: Any
    _exception: Any
    _transport: Any
    _eof: bool
    _paused: bool
    @property
    def _limit(self) -> Any: ...
    @_limit.setter
    def _limit(self, limit: Any) -> None: ...
    @property
    def _waiter(self) -> Any: ...
    @_waiter.setter
    def _waiter(self, waiter: Any) -> None: ...
    @property
    def _buffer(self) -> bytearray: ...
    @_buffer.setter
    def _buffer(self, buffer: bytearray) -> None: ...
    def feed_data(self, data: Any) -> None: ...
    def at_eof(self) -> bool: ...

@disjoint_base
class FedProtocol:
    _stream_reader_wr: Any
    _paused: bool
    _connection_lost: bool
    @property
    def _stream_reader(self) -> Any: ...
    def data_received(self, data: Any) -> None: ...
