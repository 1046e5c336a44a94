"""The same on asyncio's loop where io_uring is refused: everything goes to threads."""

import pytest

from .test_os import *  # noqa: F403  # the tests
from .test_tempfile import *  # noqa: F403
from .test_threadpool import *  # noqa: F403

# A thread goes on when its await is cancelled, and what is dropped is the standard library's to report.
del test_cancel, test_dropped  # noqa: F821

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture(autouse=True)
def _refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URINGLOOP_DISABLE", "1")
