"""In the pytest that runs aiofiles' tests: which loop they get, what they get for aiofiles, which are left out.

Loaded before any of them is imported, so whatever they import from aiofiles is `uringloop.files`.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.compat.loops import LoopChoice

#: Tests that cannot pass whoever runs them, or that look at what aiofiles does not promise, each with its reason.
SKIPS: dict[str, str] = {}
SKIPS_AS_ROOT = {"test_os.py::test_access": "root may do what the test expects to be forbidden"}

_choice = LoopChoice.from_environment()
_is_control = os.environ["URINGLOOP_COMPAT_CONTROL"] == "1"

if not _is_control:
    import uringloop.files

    uringloop.files.install()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {_choice.label.replace(" ", "-"): _choice.resolve()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skips = {**SKIPS, **(SKIPS_AS_ROOT if os.getuid() == 0 else {})}
    for item in items:
        for name, reason in skips.items():
            if _matches(item.nodeid, name):
                item.add_marker(pytest.mark.skip(reason=f"skipped by list: {reason}"))


def _matches(nodeid: str, name: str) -> bool:
    return nodeid.partition("[")[0].endswith(f"/{name}")


@pytest.fixture
def unused_tcp_port() -> int:
    """Not of those that the kernel gives to whoever asks for any: others run meanwhile, and would be given it."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(1024, first_given), 100):
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("every port that was tried is in use")


@pytest.fixture(autouse=True)
def _is_what_it_says() -> None:
    """A test that ran on aiofiles after all, or on another loop, would prove nothing."""
    import aiofiles.threadpool

    expected = "aiofiles.threadpool" if _is_control else "uringloop.files"
    assert aiofiles.threadpool.open.__module__.startswith(expected)
    assert aiofiles.open is aiofiles.threadpool.open


if not _is_control:
    # What aiofiles' tests look at below the surface, by its names there: the file of the standard library that is
    # wrapped, of which there is none here, so that the file itself has to do.
    from uringloop.files.layers.base import File
    from uringloop.files.tempfile import SpooledFile

    File._file = property(lambda self: self)  # type: ignore[attr-defined]
    SpooledFile._file = property(  # type: ignore[attr-defined]
        lambda self: SimpleNamespace(_file=self._spool)
    )
