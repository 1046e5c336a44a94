"""The tests here are collected only where `tools/consumers` runs them, in the venv that has their packages."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.libraries import databases

from . import VARIABLE

if os.environ.get(VARIABLE, "") in ("", "0"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(params=["io_uring", "epoll"])
def backend(request: pytest.FixtureRequest) -> str:
    """The backend that the consumer's loop must have; its process gets it by URINGLOOP_BACKEND."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a framework's static files, with one file of 1 MiB."""
    folder = tmp_path_factory.mktemp("static")
    (folder / "file.bin").write_bytes(os.urandom(1 << 20))
    return folder


@pytest.fixture(scope="package")
def postgresql() -> Iterator[databases.Database]:
    with databases.postgresql() as database:
        yield database


@pytest.fixture(scope="package")
def redis_server() -> Iterator[databases.Database]:
    with databases.redis() as database:
        yield database
