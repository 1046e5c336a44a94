from tests.variants import EPOLL

collect_ignore_glob = [] if EPOLL else ["*.py"]
