"""The two databases, each started once and only when a test asks for it, and gone when this folder's tests are over:
tests of children elsewhere look for children that are left.
"""

from collections.abc import Iterator

import pytest

from . import databases


@pytest.fixture(scope="package")
def postgresql() -> Iterator[databases.Database]:
    with databases.postgresql() as database:
        yield database


@pytest.fixture(scope="package")
def redis_server() -> Iterator[databases.Database]:
    with databases.redis() as database:
        yield database
