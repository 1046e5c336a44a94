"""The one list of tests that are not run, each with its reason.

For uringloop a test that inspects a private name of asyncio's own transports is the only reason accepted.
"""

from __future__ import annotations

from collections.abc import Mapping

SKIPS: Mapping[str, Mapping[str, str]] = {
    "asyncio": {},
    "uvloop": {},
    "uringloop": {
        # From 3.14 on; the same shutdown on an ordinary socket is TestSSL.test_remote_shutdown_receives_trailing_data.
        "TestSSL.test_remote_shutdown_receives_trailing_data_on_slow_socket": (
            "reads asyncio's own _SelectorSocketTransport._read_ready_cb, and replaces its _sock"
        ),
        # From 3.15 on; AsyncioEventLoopSSLTests has the same over TLS.
        "AsyncioEventLoopTests.test_gh140947": "waits for asyncio's own _SelectorTransport._paused",
    },
}


def reason_to_skip(loop_name: str, test_id: str) -> str | None:
    return SKIPS.get(loop_name, {}).get(test_id)
