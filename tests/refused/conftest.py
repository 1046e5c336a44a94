from typing import Any

import pytest

from tests import children
from tests.kernel import needs
from tests.variants import EPOLL


@pytest.fixture(params=[pytest.param("io_uring", marks=needs("io_uring")), *(("epoll",) if EPOLL else ())])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give each backend, which the scripts of the test take."""
    environment = children.environment
    chosen = {"URINGLOOP_BACKEND": request.param}
    monkeypatch.setattr(children, "environment", lambda **variables: environment(**{**chosen, **variables}))
    return request.param
