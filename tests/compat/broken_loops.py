"""Loops that fail in the ways the runner must survive, to be named as MODULE:CALLABLE in `test_runner.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any


class Crashing(asyncio.SelectorEventLoop):
    """Takes its process down as soon as it runs."""

    def run_forever(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Hanging(asyncio.SelectorEventLoop):
    """Never returns from a run, and leaves a process behind that holds the output open."""

    def run_forever(self) -> None:
        if os.fork() == 0:
            threading.Event().wait()
        threading.Event().wait()


class CrashingAtEnd(asyncio.SelectorEventLoop):
    """Runs well, and crashes when its remains are collected."""

    _has_run = False

    def run_forever(self) -> None:
        self._has_run = True
        super().run_forever()

    def __del__(self, *_: Any) -> None:
        if self._has_run:
            os.kill(os.getpid(), signal.SIGSEGV)


class Unavailable(asyncio.SelectorEventLoop):
    """Cannot be made at all."""

    def __init__(self) -> None:
        raise OSError("no ring here")
