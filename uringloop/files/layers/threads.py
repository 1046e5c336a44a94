"""Calls on files of the standard library, in threads: one at a time on each file, in the order in which they were made.

Those files do not bear several threads: two calls on a text file at once lose lines.

A cancelled call returns at once, and its thread goes on; the next call on the file waits for that thread.  A pipe, a
terminal or a socket may keep a thread for ever, and the end of the program waits for an executor's threads.  So calls
on such files get threads that it does not wait for, unless the caller chose an executor.
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

from ...shielding import until_done
from .lock import Lock

_T = TypeVar("_T")

#: An idle thread ends after this time.
_IDLE_SECONDS = 10.0


def may_wait_for_ever(mode: int) -> bool:
    """Return whether a read or write of a file with this st_mode may wait for another process or a person."""
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class Turns:
    """The turns on one file: a lock for each loop that uses the file, because standard streams belong to no loop."""

    def __init__(self) -> None:
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lock] = weakref.WeakKeyDictionary()

    def lock(self, loop: asyncio.AbstractEventLoop) -> Lock:
        """Return the lock of a loop."""
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
    """Call a function of a file in a thread, after the calls on the file that were made before.

    Args:
        turns: the turns on the file.
        loop: the running event loop.
        executor: provides the thread.  None means the loop's own executor, or a thread for this call if the file may
            keep it for ever.
        file: a file of `io`.
        function: takes no arguments.
        droppable: whether a cancel before a thread is free prevents the call.

    Returns:
        The function's result.

    Raises:
        asyncio.CancelledError: at once; a thread that has begun goes on.
        BaseException: the function's own exceptions.
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
        # The future itself is not cancelled: it tells when the thread has ended.
        await until_done(future)
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
        # Retrieve the exception, so that asyncio does not report it.
        future.exception()
    lock.release()


def _keeps_thread(file: Any) -> bool:
    with contextlib.suppress(Exception):  # the file may be any object, in memory or made for a test
        return may_wait_for_ever(os.fstat(file.fileno()).st_mode)
    return False


class _Call:
    """A function for a thread to call, unless it is dropped before."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.is_dropped = False

    def __call__(self) -> Any:
        return None if self.is_dropped else self._function()


class UnjoinedThreads:
    """Threads that the end of the program does not wait for; as many as there are calls at a time."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]] = []
        os.register_at_fork(after_in_child=self._idle.clear)

    def submit(self, function: Callable[[], _T]) -> "Future[_T]":
        """Call a function in a thread; return the future of its result."""
        future: Future[_T] = Future()
        try:
            calls = self._idle.pop()
        except IndexError:
            calls = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(calls,), name="uringloop-files", daemon=True).start()
        calls.put((future, function))
        return future

    def _serve(self, calls: "queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]") -> None:
        while True:
            try:
                future, function = calls.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with contextlib.suppress(ValueError):  # `submit` has just taken it, and puts a call in
                    self._idle.remove(calls)
                    return
                continue
            _run(future, function)
            # Hold nothing of the last call while this thread waits.
            del future, function
            self._idle.append(calls)


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
