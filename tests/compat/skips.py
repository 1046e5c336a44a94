"""The one list of tests that are not run, each with its reason.

For uringloop a test that inspects a private name of asyncio's own transports is the only reason accepted.
"""

from __future__ import annotations

from collections.abc import Mapping

SKIPS: Mapping[str, Mapping[str, str]] = {
    "asyncio": {},
    "uvloop": {},
    "uringloop": {},
}


def reason_to_skip(loop_name: str, test_id: str) -> str | None:
    return SKIPS.get(loop_name, {}).get(test_id)
