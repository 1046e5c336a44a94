"""Calls on files of the standard library, in threads: one at a time on each file, in the order in which they were made.

Those files are not made for several threads: two calls on a text file at once lose lines.

A call that is cancelled returns at once, and its thread goes on; the next call on the file waits for that.  A pipe, a
terminal or a socket may keep a thread for ever.  The program waits for an executor's threads when it ends, so calls on
such files have threads of their own, for which it does not, unless the caller chose an executor.
"""

import asyncio
import contextlib
import functools
import os
import queue
import stat
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from .hot import Lock

_T = TypeVar("_T")

#: A thread that has nothing to do for so long ends.
_IDLE_SECONDS = 10.0


def may_wait_for_ever(mode: int) -> bool:
    """Whether reading or writing a file with this st_mode may wait for another process or a person."""
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class Turns:
    """Whose turn it is on one file: a lock for each loop that uses it, since standard streams belong to no loop."""

    def __init__(self) -> None:
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lock] = weakref.WeakKeyDictionary()

    def lock(self, loop: asyncio.AbstractEventLoop) -> Lock:
        """The lock of a loop."""
        try:
            return self._locks[loop]
        except KeyError:
            return self._locks.setdefault(loop, Lock())


async def call_in_turn(
    turns: Turns,
    loop: asyncio.AbstractEventLoop,
    executor: Executor | None,
    file: Any,
    function: Callable[[], _T],
    *,
    droppable: bool = True,
) -> _T:
    """Call a function of a file in a thread when it is its turn; returns what it returns.

    Args:
        turns: of the file.
        loop: the running one.
        executor: whose thread it is, None for the loop's own or, where that may last for ever, one for this call.
        file: of `io`.
        function: called without arguments.
        droppable: do not call it any more if this is cancelled before a thread is free.
    """
    lock = turns.lock(loop)
    await lock.acquire()
    call = _Call(function)
    try:
        future: asyncio.Future[Any] = _started(loop, executor, file, call)
    except BaseException:
        lock.release()
        raise
    future.add_done_callback(functools.partial(_end, lock))
    try:
        # The future itself stays uncancelled: it tells when the thread has ended.
        await asyncio.wait((future,))
    except asyncio.CancelledError:
        call.is_dropped = droppable
        raise
    result: _T = future.result()
    return result


def _started(
    loop: asyncio.AbstractEventLoop, executor: Executor | None, file: Any, call: Callable[[], Any]
) -> "asyncio.Future[Any]":
    if executor is None and _keeps_thread(file):
        return asyncio.wrap_future(unjoined.submit(call), loop=loop)
    return loop.run_in_executor(executor, call)


def _end(lock: Lock, future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        # Looked at, so that asyncio does not report it as never retrieved.
        future.exception()
    lock.release()


def _keeps_thread(file: Any) -> bool:
    with contextlib.suppress(Exception):  # it may be any object, in memory or made for a test
        return may_wait_for_ever(os.fstat(file.fileno()).st_mode)
    return False


class _Call:
    """A function to be called in a thread, unless it is dropped before."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.is_dropped = False

    def __call__(self) -> Any:
        return None if self.is_dropped else self._function()


class UnjoinedThreads:
    """Threads that the program does not wait for when it ends; as many as there are calls at a time."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]] = []
        os.register_at_fork(after_in_child=self._idle.clear)

    def submit(self, function: Callable[[], _T]) -> "Future[_T]":
        """Call a function in a thread."""
        future: Future[_T] = Future()
        try:
            jobs = self._idle.pop()
        except IndexError:
            jobs = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(jobs,), name="uringloop-files", daemon=True).start()
        jobs.put((future, function))
        return future

    def _serve(self, jobs: "queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]") -> None:
        while True:
            try:
                future, function = jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with contextlib.suppress(ValueError):  # somebody has just taken it, and puts a job in
                    self._idle.remove(jobs)
                    return
                continue
            _run(future, function)
            # Nothing of the last call is held while this waits.
            del future, function
            self._idle.append(jobs)


def _run(future: "Future[Any]", function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


unjoined = UnjoinedThreads()
