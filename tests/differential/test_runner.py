"""Running: `asyncio.run`, `asyncio.Runner`, policies, loop factories, eager tasks, as on asyncio's own loop."""

import asyncio
import contextvars
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import uringloop
from tests.variants import FACTORIES, LoopFactory

every_loop = pytest.mark.parametrize(
    "factory", [pytest.param(FACTORIES[name], id=name) for name in ("asyncio", "ring", "selector")]
)
place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


@pytest.fixture
def default_policy() -> Iterator[None]:
    """Whatever a test installs is gone afterwards."""
    with warnings.catch_warnings():
        # Policies are deprecated from 3.14 on.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
        asyncio.set_event_loop_policy(None)


async def running() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


@every_loop
def test_a_runner_runs_several_times_on_one_loop(factory: LoopFactory) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        first = runner.run(running())
        assert runner.run(running()) is first is runner.get_loop()
    assert first.is_closed()
    with pytest.raises(RuntimeError, match="Runner is closed"):
        runner.get_loop()


@every_loop
def test_a_runner_keeps_one_context(factory: LoopFactory) -> None:
    async def put() -> None:
        place.set("put by the first")

    async def get() -> str:
        return place.get()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(put())
        assert runner.run(get()) == "put by the first"
        given = contextvars.copy_context()
        given.run(place.set, "given")
        assert runner.run(get(), context=given) == "given"
    assert place.get() == "nowhere"


@every_loop
@pytest.mark.parametrize("debug", [True, False, None])
def test_a_runner_sets_debug_mode(factory: LoopFactory, debug: bool | None) -> None:
    with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
        assert runner.get_loop().get_debug() == bool(debug)


@every_loop
def test_a_runner_cancels_what_is_left_and_tells_of_its_errors(factory: LoopFactory) -> None:
    heard: list[dict[str, Any]] = []
    ended: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
            raise ValueError("while it was cancelled")

    async def generate() -> Any:
        try:
            while True:
                yield 1
        finally:
            ended.append("generator")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
        keep.append(asyncio.create_task(linger()))
        async for _ in generator:
            break
        await asyncio.sleep(0)

    keep: list[Any] = []
    generator = generate()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert ended == ["cancelled", "generator"]
    assert [context["message"] for context in heard] == ["unhandled exception during asyncio.run() shutdown"]


@every_loop
def test_a_running_loop_lets_nobody_else_run(factory: LoopFactory) -> None:
    async def main() -> None:
        coroutine = running()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            asyncio.run(coroutine)
        other = factory()
        with pytest.raises(RuntimeError, match="Cannot run the event loop while another loop is running"):
            other.run_forever()
        other.close()
        coroutine.close()
        if isinstance(mine, uringloop.EventLoop):
            # asyncio of 3.13 forgets which loop is running.
            assert asyncio.get_running_loop() is mine

    with asyncio.Runner(loop_factory=factory) as runner:
        mine = runner.get_loop()
        runner.run(main())


@every_loop
def test_run_until_complete_gives_what_the_future_has(factory: LoopFactory) -> None:
    loop = factory()
    future = loop.create_future()
    loop.call_soon(future.set_result, 5)
    assert loop.run_until_complete(future) == 5
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(_fail())
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(loop.create_future())
    loop.close()


async def _fail() -> None:
    raise ZeroDivisionError


@every_loop
def test_a_task_factory_makes_every_task(factory: LoopFactory) -> None:
    made: list[str] = []

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(make)
        assert loop.get_task_factory() is make
        task = asyncio.create_task(running(), name="named")
        assert task.get_name() == "named"
        await task
        await asyncio.gather(running(), running())
        loop.set_task_factory(None)
        await asyncio.create_task(running())

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert made == ["running"] * 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
@every_loop
def test_an_eager_task_runs_to_its_first_wait_at_once(factory: LoopFactory) -> None:
    order: list[str] = []

    async def quick() -> str:
        order.append(f"quick in {place.get()}")
        return "done"

    async def connect(address: tuple[str, int]) -> bytes:
        order.append("connecting")
        reader, writer = await asyncio.open_connection(*address)
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        order.append("connected")
        return data

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"answer")
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        place.set("main")
        task = asyncio.create_task(quick())
        assert task.done()
        assert task.result() == "done"
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        connecting = asyncio.create_task(connect(server.sockets[0].getsockname()))
        order.append("begun")
        assert await connecting == b"answer"
        server.close()
        await server.wait_closed()
        with pytest.raises(ZeroDivisionError):
            await asyncio.create_task(_fail())

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert order == ["quick in main", "connecting", "begun", "connected"]


# Ways to ask for this loop


def test_install_makes_it_everybody_s_loop(default_policy: None) -> None:
    uringloop.install()
    assert isinstance(asyncio.run(running()), uringloop.EventLoop)
    made = asyncio.new_event_loop()
    assert isinstance(made, uringloop.EventLoop)
    made.close()
    asyncio.set_event_loop_policy(None)
    assert not isinstance(asyncio.run(running()), uringloop.EventLoop)


def test_the_policy_keeps_the_loop_that_is_set(default_policy: None) -> None:
    asyncio.set_event_loop_policy(uringloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop_policy().get_event_loop() is loop
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError, match="no current event loop"):
        asyncio.get_event_loop_policy().get_event_loop()
    loop.close()


@pytest.mark.parametrize("factory", [uringloop.new_event_loop, uringloop.EventLoop])
def test_a_loop_factory_needs_no_policy(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        assert isinstance(runner.run(running()), uringloop.EventLoop)


def test_run_runs_on_this_loop_and_closes_it() -> None:
    loop = uringloop.run(running(), debug=True)
    assert isinstance(loop, uringloop.EventLoop)
    assert loop.is_closed()
    assert loop.get_debug()


def test_run_refuses_what_is_no_coroutine_and_a_loop_in_a_loop() -> None:
    with pytest.raises((TypeError, ValueError), match=r"coroutine was expected|awaitable"):
        uringloop.run(5)  # type: ignore[arg-type]

    async def main() -> None:
        coroutine = running()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            uringloop.run(coroutine)
        coroutine.close()

    uringloop.run(main())
