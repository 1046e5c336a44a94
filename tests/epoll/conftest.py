import pytest

from tests.variants import EPOLL

pytest.register_assert_rewrite("tests.epoll.hand")
collect_ignore_glob = [] if EPOLL else ["*.py"]
