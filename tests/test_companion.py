"""A ring beside asyncio's loop, and beside uvloop's, on each backend: made once, woken always, gone with the loop."""

import asyncio
import gc
import os
import select
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import uringloop
from tests.children import script
from tests.kernel import needs
from tests.refused.test_refused import PREPARED, WAYS
from uringloop import files
from uringloop.companion import SLICE_NS, Companion, submitter
from uringloop.operations import Nop, Stat
from uringloop.operations.compiled import Read
from uringloop.operations.file import Ready
from uringloop.ring.base import _live

on_each_backend = pytest.mark.parametrize(
    "backend", [pytest.param("io_uring", marks=needs("io_uring")), "epoll"], indirect=True
)


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backend of every ring, also of children."""
    name = str(getattr(request, "param", "io_uring"))
    monkeypatch.setenv("URINGLOOP_BACKEND", name)
    return name


def companion() -> Companion:
    found = submitter(asyncio.get_running_loop())
    assert isinstance(found, Companion)
    return found


def on_asyncio(main: Any) -> Any:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(main)


def rings() -> int:
    return len(_live)


@on_each_backend
def test_one_ring_a_loop_made_on_first_use_and_closed_with_it() -> None:
    async def main() -> None:
        assert rings() == 0
        first = companion()
        await first.submit(Nop())
        assert companion() is first
        assert rings() == 1

    for _ in range(3):
        on_asyncio(main())
        assert rings() == 0


@on_each_backend
def test_uringloop_s_own_loop_needs_none() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert submitter(loop) is loop
        await submitter(loop).submit(Nop())
        assert rings() == 1

    uringloop.run(main())


@on_each_backend
def test_loops_in_several_threads(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    inode = tmp_path.stat().st_ino

    async def main() -> None:
        for _ in range(20):
            for status in await asyncio.gather(*(companion().submit(Stat(tmp_path)) for _ in range(20))):
                assert status.st_ino == inode

    def run() -> None:
        try:
            on_asyncio(main())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert rings() == 0


@on_each_backend
def test_what_is_staged_in_one_turn_shares_a_submit() -> None:
    async def main() -> None:
        await companion().submit(Nop())
        before = companion().statistics()
        await asyncio.gather(*(companion().submit(Nop()) for _ in range(200)))
        after = companion().statistics()
        assert after["completed"] - before["completed"] == 200
        assert after["enters"] - before["enters"] <= 3

    on_asyncio(main())


@on_each_backend
def test_a_burst_wakes_everybody() -> None:
    """More than the kernel makes at once, and more than the queue holds, while the loop sleeps in its selector."""

    async def main() -> None:
        await asyncio.gather(*(companion().submit(Nop()) for _ in range(10_000)))
        pipes = [os.pipe() for _ in range(100)]
        waiting = [asyncio.ensure_future(companion().submit(Ready(reader, select.POLLIN))) for reader, _ in pipes]

        def write() -> None:
            for _, writer in pipes:
                os.write(writer, b"x")

        # Not before the loop has gone to sleep, for all that can be known of it.
        asyncio.get_running_loop().call_later(0.01, lambda: threading.Thread(target=write).start())
        async with asyncio.timeout(20):
            assert await asyncio.gather(*waiting) == [select.POLLIN] * 100
        for fd in (fd for pipe in pipes for fd in pipe):
            os.close(fd)

    on_asyncio(main())


@on_each_backend
def test_cancel() -> None:
    async def main() -> None:
        reader, writer = os.pipe()
        space = bytearray(10)
        reading = asyncio.ensure_future(companion().submit(Read(reader, space)))
        await asyncio.sleep(0.001)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert companion().statistics()["in_flight"] == 0
        os.write(writer, b"kept")
        assert os.read(reader, 10) == b"kept"
        os.close(reader)
        os.close(writer)

    on_asyncio(main())


@on_each_backend
def test_loop_closed_with_operations_in_flight() -> None:
    """Nobody cancelled them: the close does, and waits."""
    reader, writer = os.pipe()
    loop = asyncio.SelectorEventLoop()
    operation = Read(reader, bytearray(10))

    async def begin() -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(companion().submit(operation))
        await asyncio.sleep(0.001)
        return task

    task = loop.run_until_complete(begin())
    assert operation.in_flight
    loop.close()
    assert not operation.in_flight
    assert rings() == 0
    os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.close(writer)
    # "Task was destroyed but it is pending": so it was.
    loop.set_exception_handler(lambda loop, context: None)
    del task
    gc.collect()


@on_each_backend
def test_running_loop_is_not_closed_and_keeps_its_ring() -> None:
    async def main() -> None:
        await companion().submit(Nop())
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            asyncio.get_running_loop().close()
        await companion().submit(Nop())

    on_asyncio(main())


@on_each_backend
def test_loop_that_is_dropped_without_being_closed() -> None:
    """asyncio says so, and closes it."""

    def drop() -> None:
        loop = asyncio.SelectorEventLoop()

        async def main() -> None:
            await companion().submit(Nop())

        loop.run_until_complete(main())

    drop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert rings() == 0


@on_each_backend
def test_loop_that_runs_in_another_thread_later(backend: str) -> None:
    loop = asyncio.SelectorEventLoop()
    reader, writer = os.pipe()

    async def main() -> int:
        await asyncio.gather(*(companion().submit(Nop()) for _ in range(50)))
        return threading.get_native_id()

    async def begin_reading() -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(companion().submit(Ready(reader, select.POLLIN)))
        await asyncio.sleep(0)
        return task

    async def ended(task: "asyncio.Task[Any]") -> Any:
        return await task

    answers: list[Any] = []

    def run_elsewhere(main: Any) -> None:
        def run() -> None:
            try:
                answers.append(loop.run_until_complete(main))
            except RuntimeError as error:
                answers.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    first = loop.run_until_complete(main())
    run_elsewhere(main())
    assert answers.pop() != first
    assert loop.run_until_complete(main()) == first
    task = loop.run_until_complete(begin_reading())
    run_elsewhere(main())
    if backend == "io_uring":
        assert "ran in another thread, where 1 operations" in answers.pop()
    else:
        assert answers.pop() != first
    os.write(writer, b"x")
    assert loop.run_until_complete(ended(task)) == select.POLLIN
    loop.close()
    os.close(reader)
    os.close(writer)
    assert rings() == 0


@on_each_backend
def test_the_loop_s_exception_handler_hears_what_nobody_else_does() -> None:
    class Failing(Nop):
        def complete(self, res: int, flags: int) -> None:
            super().complete(res, flags)
            raise ZeroDivisionError

    async def main() -> None:
        heard: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
        await companion().submit(Failing())
        assert [type(context["exception"]) for context in heard] == [ZeroDivisionError]

    on_asyncio(main())


@on_each_backend
def test_on_uvloop(backend: str) -> None:
    source = """
        import asyncio, gc, os
        import uvloop
        from uringloop.companion import submitter
        from uringloop.files import os as aos

        from uringloop.ring.base import _live

        async def main():
            assert await aos.stat("/") == os.stat("/")
            await asyncio.gather(*(aos.path.exists("/") for _ in range(500)))
            [ring] = [reference() for reference in _live.values()]
            return type(asyncio.get_running_loop()).__module__, ring.backend

        for _ in range(2):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                print(*runner.run(main()))
            assert not _live
    """
    assert script(source, URINGLOOP_BACKEND=backend) == f"uvloop {backend}\n" * 2


@on_each_backend
def test_forked_child_makes_its_own(backend: str) -> None:
    source = """
        import asyncio, os
        from uringloop.files import os as aos

        async def main(word):
            assert await aos.stat("/") == os.stat("/")
            if word == "parent":
                child = os.fork()
                if not child:
                    asyncio.events._set_running_loop(None)
                    asyncio.run(main("child"))
                    os._exit(0)
                while not (await asyncio.to_thread(os.waitpid, child, 0))[0]:
                    pass
                assert await aos.stat("/") == os.stat("/")
            print(word, flush=True)

        import warnings
        # Python's own, of fork in a process with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.run(main("parent"))
    """
    assert script(source, URINGLOOP_BACKEND=backend) == "child\nparent\n"


# Where io_uring is refused


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def refused(way: str, source: str) -> str:
    variables = {"URINGLOOP_DISABLE": "1"} if way == "URINGLOOP_DISABLE" else {}
    return script(PREPARED.format(refusal=WAYS[way][0]) + source, **variables)


def test_refused_files_go_through_epoll_without_a_warning(way: str) -> None:
    """The interpreter makes an error of any warning."""
    answer = refused(
        way,
        """
import os, threading
from uringloop.files import os as aos

async def main():
    for _ in range(3):
        assert await aos.stat("/") == os.stat("/")
    assert await aos.path.exists("/nowhere") is False
    print(any("asyncio_" in thread.name for thread in threading.enumerate()))
    print(asyncio.get_running_loop()._uringloop_companion.ring.backend)

asyncio.run(main())
""",
    )
    assert answer == "False\nepoll\n"


def test_io_uring_that_is_asked_for_and_refused() -> None:
    answer = script(
        """
import asyncio, uringloop
from uringloop.files import os as aos
async def main():
    for _ in range(2):
        try:
            await aos.stat("/")
        except uringloop.RingUnavailableError as error:
            print(error.cause)
asyncio.run(main())
""",
        URINGLOOP_BACKEND="io_uring",
        URINGLOOP_DISABLE="1",
    )
    assert answer == "URINGLOOP_DISABLE is set.\n" * 2


def test_no_descriptor_left_for_a_companion() -> None:
    """It is no reason to do without for ever."""
    answer = script("""
import asyncio, errno, os, resource
from uringloop.files import os as aos
async def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), hard))
    try:
        await aos.stat("/")
    except OSError as error:
        print(errno.errorcode[error.errno])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await aos.stat("/") == os.stat("/")
asyncio.run(main())
""")
    assert answer == "EMFILE\n"


def test_a_loop_without_a_hook_for_its_close_has_none() -> None:
    """As a loop in another language may be: no attribute of its own can be set."""

    class Loop:
        __slots__ = ()

    assert submitter(Loop()) is None  # type: ignore[arg-type]


@on_each_backend
def test_who_reads_small_files_without_end_lets_the_others_run(tmp_path: Path) -> None:
    """Each read asks more than once whether it may go on: no answer but a turn of the loop may make it so."""
    (tmp_path / "file").write_bytes(b"content")
    reads = 100

    async def main() -> None:
        turns = 0
        reading = True

        async def count() -> None:
            nonlocal turns
            while reading:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for _ in range(reads):
            assert await files.read_bytes(tmp_path / "file") == b"content"
            slice_end_ns = time.monotonic_ns() + SLICE_NS
            while time.monotonic_ns() < slice_end_ns:
                pass
        reading = False
        await counting
        assert turns >= reads

    on_asyncio(main())
