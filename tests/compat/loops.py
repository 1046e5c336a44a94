"""Which loop a run tests, how asyncio is made to hand it out, and the proof that it really did.

CPython's tests reach a loop in four ways: a hook of the test class (`suite.py` answers those),
`asyncio.new_event_loop`, `asyncio.run` or a `Runner`, and the default policy. `bind` turns the last three
towards one factory. A binding that misses leaves a test on asyncio's own loop, where it passes and proves
nothing; so a census counts every loop made, and the runner refuses a pass that proves nothing.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import threading
from asyncio import base_events, events, unix_events
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

SLEEPS = ("auto", "selector", "ring")
BACKENDS = ("auto", "io_uring", "epoll")

_LOOP_VARIABLE = "URINGLOOP_COMPAT_LOOP"
_SLEEP_VARIABLE = "URINGLOOP_COMPAT_SLEEP"
_BACKEND_VARIABLE = "URINGLOOP_COMPAT_BACKEND"


@dataclass(frozen=True)
class LoopChoice:
    """The user's choice: a known name or MODULE:CALLABLE, where uringloop shall sleep, and its backend."""

    name: str
    sleep: str = "auto"
    backend: str = "auto"

    @property
    def label(self) -> str:
        if self.name != "uringloop":
            return self.name
        return f"{self.name} (sleep={self.sleep}, backend={self.backend})"

    def resolve(self) -> LoopFactory:
        if self.name == "asyncio":
            return asyncio.SelectorEventLoop
        if self.name == "uvloop":
            return _imported("uvloop", "new_event_loop")
        if self.name == "uringloop":
            return functools.partial(_imported("uringloop", "EventLoop"), sleep=self.sleep, backend=self.backend)
        module_name, colon, path = self.name.partition(":")
        if not colon:
            raise ValueError(f"unknown loop {self.name!r}: asyncio, uvloop, uringloop or MODULE:CALLABLE")
        return _imported(module_name, path)

    def to_environment(self) -> None:
        os.environ[_LOOP_VARIABLE] = self.name
        os.environ[_SLEEP_VARIABLE] = self.sleep
        os.environ[_BACKEND_VARIABLE] = self.backend

    @classmethod
    def from_environment(cls) -> LoopChoice:
        return cls(os.environ[_LOOP_VARIABLE], os.environ[_SLEEP_VARIABLE], os.environ[_BACKEND_VARIABLE])


def _imported(module_name: str, path: str) -> Callable[..., asyncio.AbstractEventLoop]:
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise ValueError(f"{module_name}:{path} is not callable")
    return cast("Callable[..., asyncio.AbstractEventLoop]", found)


@dataclass
class Census:
    """Every loop made in this process: by the factory, CPython's simulated ones, and all others."""

    given: int = 0
    simulated: int = 0
    foreign: list[str] = field(default_factory=list)
    _inside: threading.local = field(default_factory=threading.local, repr=False)

    def counting(self, factory: LoopFactory) -> LoopFactory:
        def make_counted_loop() -> asyncio.AbstractEventLoop:
            self._inside.factory = True
            try:
                loop = factory()
            finally:
                self._inside.factory = False
            self.given += 1
            return loop

        return make_counted_loop

    def watch(self) -> None:
        """Notice each loop that derives from asyncio's and was made behind the factory's back."""
        original = base_events.BaseEventLoop.__init__

        def noticed_init(loop: base_events.BaseEventLoop, *args: Any, **kwargs: Any) -> None:
            if not getattr(self._inside, "factory", False):
                self._notice(type(loop))
            original(loop, *args, **kwargs)

        base_events.BaseEventLoop.__init__ = noticed_init  # type: ignore[method-assign,assignment]

    def _notice(self, kind: type) -> None:
        if (kind.__module__, kind.__name__) == ("test.test_asyncio.utils", "TestLoop"):
            self.simulated += 1
        else:
            self.foreign.append(f"{kind.__module__}.{kind.__qualname__}")

    def verdict(self) -> str | None:
        """Why a pass in this process would prove nothing, or None when it counts."""
        if self.foreign:
            return f"the binding missed: the test made {', '.join(self.foreign)}"
        if not self.given:
            return "the binding missed: the loop under test was never made"
        return None


def bind(choice: LoopChoice) -> tuple[LoopFactory, Census]:
    """Make asyncio hand out the chosen loop for the rest of this process's life."""
    census = Census()
    factory = census.counting(choice.resolve())
    census.watch()
    asyncio.new_event_loop = events.new_event_loop = factory
    # From 3.13 on the name of the platform's loop, which tests give as a loop_factory.
    asyncio.EventLoop = factory  # type: ignore[misc,assignment]
    # Some tests ask a policy object directly. Python 3.16 has no policies left to ask.
    policy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
    if policy is not None:
        policy._loop_factory = staticmethod(factory)
    choice.to_environment()
    return factory, census
