"""The two databases, each started once and only when a test asks for it."""

from collections.abc import Iterator

import pytest

from . import databases


@pytest.fixture(scope="session")
def postgresql() -> Iterator[databases.Database]:
    with databases.postgresql() as database:
        yield database


@pytest.fixture(scope="session")
def redis_server() -> Iterator[databases.Database]:
    with databases.redis() as database:
        yield database
