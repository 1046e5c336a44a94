"""`run_in_executor`: results, errors and cancels between a thread of an executor and the loop, as with asyncio."""

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.variants import DEFAULT, FACTORIES, LoopFactory

BOTH = ("asyncio", DEFAULT)
both = pytest.mark.asyncio(loop_factories=BOTH)


class Blocked:
    """An executor with one thread, which is busy until `release`.

    Attributes:
        ran: the names of the calls behind the first one that have run.
    """

    def __init__(self, **options: Any) -> None:
        self.executor = ThreadPoolExecutor(1, **options)
        self.ran: list[str] = []
        self._begun, self._free = threading.Event(), threading.Event()
        self.first = asyncio.get_running_loop().run_in_executor(self.executor, self._block)
        assert self._begun.wait(10)

    def _block(self) -> str:
        self._begun.set()
        assert self._free.wait(10)
        return "first"

    def call(self, name: str) -> "asyncio.Future[None]":
        return asyncio.get_running_loop().run_in_executor(self.executor, self.ran.append, name)

    def release(self) -> None:
        self._free.set()


@both
async def test_a_call_that_has_not_begun_is_cancelled_for_good() -> None:
    blocked = Blocked()
    cancelled, kept = blocked.call("cancelled"), blocked.call("kept")
    cancelled.cancel()
    await asyncio.sleep(0)  # asyncio hears of it in the next tick
    blocked.release()
    await kept
    assert await blocked.first == "first"
    assert blocked.ran == ["kept"]
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    blocked.executor.shutdown()


@both
async def test_a_call_that_is_cancelled_while_it_runs_ends_unheard() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    blocked = Blocked()
    blocked.first.cancel()
    await asyncio.sleep(0)
    last = blocked.call("last")
    blocked.release()
    await last
    assert blocked.first.cancelled()
    assert not complaints
    blocked.executor.shutdown()


@both
async def test_a_shutdown_cancels_the_futures_of_calls_that_have_not_begun() -> None:
    blocked = Blocked()
    waiting = blocked.call("waiting")
    blocked.executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    blocked.release()
    assert await blocked.first == "first"
    assert not blocked.ran
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        blocked.call("late")


@both
async def test_a_failed_initializer_breaks_the_executor(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    begin = threading.Event()

    def fail() -> None:
        begin.wait(10)
        raise ValueError("no")

    with ThreadPoolExecutor(1, initializer=fail) as executor:
        calls = [loop.run_in_executor(executor, int) for _ in range(3)]
        begin.set()
        for call in calls:
            with pytest.raises(concurrent.futures.BrokenExecutor):
                await call
        with pytest.raises(concurrent.futures.BrokenExecutor):
            await loop.run_in_executor(executor, int)
    assert "Exception in initializer" in caplog.text


@both
async def test_errors_keep_their_type_and_traceback() -> None:
    loop = asyncio.get_running_loop()

    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(SystemExit) as exit_of_thread:
        await loop.run_in_executor(None, fail, SystemExit(3))
    assert exit_of_thread.traceback[-1].name == "fail"
    with pytest.raises(asyncio.CancelledError, match="of the thread"):
        await loop.run_in_executor(None, fail, concurrent.futures.CancelledError("of the thread"))
    with pytest.raises(TypeError):
        await loop.run_in_executor(None, fail)  # type: ignore[arg-type]


@both
async def test_another_default_executor_and_a_patched_one_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    assert (await asyncio.to_thread(threading.current_thread)).name.startswith("asyncio_")
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as mine:
        loop.set_default_executor(mine)
        assert (await asyncio.to_thread(threading.current_thread)).name == "mine_0"
        submit, submitted = ThreadPoolExecutor.submit, []

        def note(self: Any, function: Any, *args: Any) -> Any:
            submitted.append(function)
            return submit(self, function, *args)

        with monkeypatch.context() as patched:
            patched.setattr(ThreadPoolExecutor, "submit", note)
            assert await loop.run_in_executor(None, int) == 0
        assert await loop.run_in_executor(None, float) == 0
        with monkeypatch.context() as patched:
            patched.setattr(mine, "submit", lambda *given: note(mine, *given), raising=False)
            assert await loop.run_in_executor(None, str) == ""
    assert submitted == [int, str]


@both
async def test_nothing_keeps_what_a_call_was_given_or_gave() -> None:
    class Thing:
        pass

    given, call = Thing(), Thing
    alive = weakref.ref(given)
    with ThreadPoolExecutor(1) as executor:
        made = asyncio.get_running_loop().run_in_executor(executor, lambda _: call(), given)
        del given
        gone = weakref.ref(await made)
        del made
    await asyncio.sleep(0)  # the future tells its other end
    gc.collect()
    assert alive() is None
    assert gone() is None


@pytest.fixture(params=BOTH)
def factory(request: pytest.FixtureRequest) -> LoopFactory:
    return FACTORIES[request.param]


def test_a_call_may_outlive_its_loop(factory: LoopFactory, caplog: pytest.LogCaptureFixture) -> None:
    free = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        loop = factory()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_in_executor(executor, free.wait, 10)
        loop.close()
        free.set()
    assert not caplog.records


def test_threads_call_a_loop_that_is_closed_or_between_two_runs(factory: LoopFactory) -> None:
    loop = factory()
    seen: list[int] = []
    try:
        loop.run_until_complete(asyncio.sleep(0.001))  # it has slept
        with ThreadPoolExecutor(1) as executor:
            for number in range(3):
                executor.submit(loop.call_soon_threadsafe, seen.append, number).result()
            loop.call_soon(seen.append, 3)
            loop.run_until_complete(asyncio.sleep(0))
            assert seen == [0, 1, 2, 3]
            # In another thread, where this one wakes it.
            woken = loop.create_future()
            running = executor.submit(loop.run_until_complete, woken)
            loop.call_soon_threadsafe(woken.set_result, "woken")
            assert running.result(10) == "woken"
            loop.call_soon_threadsafe(seen.append, 4)
    finally:
        loop.close()
    assert seen == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(print)


class _Late:
    """Garbage in a circle, whose finalizer calls into the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seen: list[str]) -> None:
        self.circle, self.loop, self.seen = self, loop, seen

    def __del__(self) -> None:
        self.loop.call_soon_threadsafe(self.seen.append, "finalizer")


@both
async def test_finalizers_call_into_the_loop_at_any_point_of_such_a_call() -> None:
    loop = asyncio.get_running_loop()
    seen: list[str] = []
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:

        def call() -> None:
            for _ in range(200):
                _Late(loop, seen)
                loop.call_soon_threadsafe(seen.append, "thread")

        await asyncio.gather(asyncio.to_thread(call), asyncio.to_thread(call))
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    await asyncio.sleep(0)
    assert (seen.count("thread"), seen.count("finalizer")) == (400, 400)
