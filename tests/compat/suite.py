"""The classes of `test.test_asyncio` that speak about any loop, bound to one loop factory.

CPython's other classes test asyncio's own parts by mocks and private names (`test_selector_events`, ...), so
they say nothing about another loop. A name that the running Python lacks is left out: 3.11 has no eager
tasks, 3.12 no cleanup of unix sockets, 3.14 no context of a connection.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import unittest
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tests.compat.loops import LoopFactory

# Slow classes first, so that a parallel run does not end on one long test.
CLASSES = {
    "TestSSL": "test_ssl",
    "BaseStartTLS": "test_sslproto",
    "SubprocessMixin": "test_subprocess",
    "SubprocessTestsMixin": "test_events",
    "EventLoopTestsMixin": "test_events",
    "TestCGetEventLoop": "test_events",
    "SendfileTestsBase": "test_sendfile",
    "BaseSockTestsMixin": "test_sock_lowlevel",
    "BaseStartServer": "test_server",
    "TestServer2": "test_server",
    "UnixServerCleanupTests": "test_server",
    "BaseTestBufferedProtocol": "test_buffered_proto",
    "StreamTests": "test_streams",
    "TestFunctional": "test_unix_events",
    "AsyncioWaitForTest": "test_waitfor",
    "TimeoutTests": "test_timeouts",
    "TestTaskGroup": "test_taskgroups",
    "TestEagerTaskTaskGroup": "test_taskgroups",
    "ToThreadTests": "test_threads",
    "CTask_CFuture_Tests": "test_tasks",
    "CEagerTaskFactoryLoopTests": "test_eager_task_factory",
    "DefaultTaskFactoryEagerStart": "test_eager_task_factory",
    "TestCallStackC": "test_graph",
    "AsyncioEventLoopTests": "test_server_context",
    "AsyncioEventLoopSSLTests": "test_server_context",
    "UnixPipeObjectSupportTests": "test_events",
    "RunCoroutineThreadsafeTests": "test_tasks",
    "SleepTests": "test_tasks",
    "QueueBasicTests": "test_queues",
    "LockTests": "test_locks",
    "DecimalContextTest": "test_context",
}


@dataclass(frozen=True, order=True)
class TestId:
    """Names a test the same way on every Python: the class that CPython defines it in, and the method."""

    class_name: str
    method: str

    __test__ = False

    def __str__(self) -> str:
        return f"{self.class_name}.{self.method}"


class Suite:
    """Every test of the running Python, each ready to run on the loop under test."""

    def __init__(self, factory: LoopFactory) -> None:
        self._classes: dict[str, type[unittest.TestCase]] = {}
        self.ids: list[TestId] = []
        for class_name, module_name in CLASSES.items():
            original = _find(class_name, module_name)
            if original is None:
                continue
            self._classes[class_name] = _bind_class(original, factory)
            methods = sorted(name for name in dir(original) if name.startswith("test"))
            self.ids += [TestId(class_name, method) for method in methods]

    def case(self, test_id: TestId) -> unittest.TestCase:
        return self._classes[test_id.class_name](test_id.method)


def _find(class_name: str, module_name: str) -> type | None:
    full_name = f"test.test_asyncio.{module_name}"
    if importlib.util.find_spec(full_name) is None:
        return None
    found: type | None = getattr(importlib.import_module(full_name), class_name, None)
    return found


def _bind_class(original: type, factory: LoopFactory) -> type[unittest.TestCase]:
    module = importlib.import_module(original.__module__)
    bases: tuple[type, ...] = (original,)
    hooks: dict[str, Any] = {
        # unittest looks up setUpModule and tearDownModule by this.
        "__module__": original.__module__,
        "create_event_loop": lambda _self: factory(),
        "new_loop": lambda _self: factory(),
    }
    if original.__name__ == "SubprocessTestsMixin":
        # CPython never uses it alone: setUp and tearDown are the other mixin's.
        bases += (module.EventLoopTestsMixin,)
    if original.__name__ == "SubprocessMixin":
        hooks["setUp"] = _set_up_with_loop(module, factory)
    if original.__name__ == "UnixPipeObjectSupportTests":
        hooks["setUp"] = _set_up_with_own_loop(factory)
    if original.__name__ == "CTask_CFuture_Tests":
        hooks["new_test_loop"] = _loop_unless_time_is_dictated(module, factory)
    # That of the eager task groups makes an asyncio.EventLoop, which `bind` has turned towards the factory.
    if getattr(original, "loop_factory", None) is not None and original.__name__ != "TestEagerTaskTaskGroup":
        hooks["loop_factory"] = staticmethod(factory)
    if not issubclass(original, unittest.TestCase):
        bases += (getattr(module, "test_utils", unittest).TestCase,)
    if any(hasattr(base, "close_loop") for base in bases):
        hooks["close_loop"] = staticmethod(_close_loop(module))
    return type(original.__name__, bases, hooks)


def _set_up_with_loop(module: ModuleType, factory: LoopFactory) -> Any:
    def set_up(self: Any) -> None:
        module.test_utils.TestCase.setUp(self)
        self.loop = factory()
        self.set_event_loop(self.loop)

    return set_up


def _set_up_with_own_loop(factory: LoopFactory) -> Any:
    def set_up(self: Any) -> None:
        self.loop = factory()
        self.addCleanup(self.loop.close)

    return set_up


def _loop_unless_time_is_dictated(module: ModuleType, factory: LoopFactory) -> Any:
    """Replace CPython's simulated loop, save where the test scripts the passage of time by a generator."""

    def new_test_loop(self: Any, gen: Any = None) -> asyncio.AbstractEventLoop:
        if gen is not None:
            simulated: asyncio.AbstractEventLoop = module.test_utils.TestCase.new_test_loop(self, gen)
            return simulated
        loop = factory()
        self.set_event_loop(loop)
        return loop

    return new_test_loop


def _close_loop(module: ModuleType) -> Any:
    """CPython's clean-up reads a private name of BaseEventLoop: that shall not fail every other loop."""
    close_base_loop = module.test_utils.TestCase.close_loop

    def close_loop(loop: asyncio.AbstractEventLoop) -> None:
        if hasattr(loop, "_default_executor"):
            close_base_loop(loop)
            return
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    return close_loop
