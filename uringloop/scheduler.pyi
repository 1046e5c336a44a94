from asyncio import Future, Handle, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

class Scheduler:
    _closed: bool
    _debug: bool
    _stopping: bool
    _thread_id: int | None
    _ready: deque[Handle]
    _scheduled: list[TimerHandle]
    _timer_cancelled_count: int

    def get_debug(self) -> bool: ...
    def create_future(self) -> Future[Any]: ...
    def create_task(self, coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T], **keywords: Any) -> Task[_T]: ...
    def call_soon(self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None) -> Handle: ...
    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> TimerHandle: ...
    def _timer_handle_cancelled(self, handle: TimerHandle) -> None: ...
    def _woke(self) -> None: ...
    def _sleep_by(
        self,
        sleep: Callable[[int], object],
        sleep_watching: Callable[[int], object],
        watched: dict[int, Any],
        dispatch: Callable[[], None],
    ) -> None: ...
    def _send_by(self, tick: int, send: Callable[[], None]) -> None: ...
    def may_go_on(self) -> bool: ...
    def _run_once(self) -> None: ...
    def _run_slowly(self, count: int) -> None: ...
