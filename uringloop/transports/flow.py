"""Flow control of the sending side: water marks, and telling the protocol.  See `asyncio.WriteTransport`."""

import asyncio
from typing import Any

from ..ring import Stream

_HIGH_WATER_BYTES = 64 * 1024


class FlowControl:
    """For transports over a `Stream`, which watches the marks and calls `pause_protocol` and `resume_protocol`."""

    _loop: asyncio.AbstractEventLoop
    _stream: Stream
    _protocol: Any

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks in bytes; see `asyncio.WriteTransport.set_write_buffer_limits`.

        Raises:
            ValueError: unless high >= low >= 0.
        """
        self._set_limits(high, low)
        self._stream.check_high_water()

    def _set_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._stream.high_water = high
        self._stream.low_water = low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high mark in bytes."""
        return self._stream.low_water, self._stream.high_water

    def get_write_buffer_size(self) -> int:
        """Bytes written that the kernel has not reported sent."""
        return self._stream.queued()

    def pause_protocol(self) -> None:
        """The queue rose above the high mark; called by the stream."""
        self._tell("pause_writing")

    def resume_protocol(self) -> None:
        """The queue fell to the low mark; called by the stream."""
        self._tell("resume_writing")

    def _tell(self, method: str) -> None:
        try:
            getattr(self._protocol, method)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler(
                {
                    "message": f"protocol.{method}() failed",
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
