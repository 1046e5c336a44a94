"""The states of an endpoint follow each other as their table says."""

import socket
from typing import Any

import pytest

import uringloop


def test_an_endpoint_skips_no_state() -> None:
    ours, theirs = socket.socketpair()
    loop = uringloop.EventLoop()
    engine: Any = loop._engine
    try:
        stream = engine.open_stream(None, ours.fileno(), ours, False)
        assert stream.state == "open"
        with pytest.raises(RuntimeError, match="cannot go from open to ending"):
            stream.file_released()
        assert stream.detach() is ours
        assert stream.state == "closed"
        with pytest.raises(RuntimeError, match="cannot go from closed to closed"):
            stream._lose_connection()
    finally:
        loop.close()
        ours.close()
        theirs.close()
