"""What is measured within one process: scheduling, threads, children, names, readers, and conversations of libraries.

    echo "call_soon 0.1" | python -m benchmarks.workers --loop uvloop

It reads questions with their seconds, one a line, and answers each with one line of JSON.  A question is a coroutine
function here that does something `count` times; `count` grows until it takes as long as was asked for.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from queue import SimpleQueue
from typing import Any

from benchmarks import clients, contenders, conversations, messages, readiness, streams

GROWTH_MAX = 10
TIMERS_AT_ONCE = 2000
GATHERED = 100
EXECUTED_AT_ONCE = 200
SPAWNED_AT_ONCE = 8
PIPED = bytes(64 << 10)
LOOKED_UP_AT_ONCE = 16
#: The right answers.
FOUND = socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
NAMED = socket.getnameinfo(("127.0.0.1", 80), 0)


#: Makes a loop of the contender; `main` sets it.
new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop


def nothing(*_: object) -> None:
    pass


async def call_soon(count: int) -> None:
    await _calls(count, asyncio.get_running_loop().call_soon)


async def call_soon_with_arguments(count: int) -> None:
    await _calls(count, asyncio.get_running_loop().call_soon, 1, "two")


async def call_soon_threadsafe(count: int) -> None:
    await _calls(count, asyncio.get_running_loop().call_soon_threadsafe)


async def _calls(count: int, call: Callable[..., object], *arguments: object) -> None:
    """A thousand at a time, as a busy turn of the loop has them."""
    for first in range(0, count, 1000):
        for _ in range(min(1000, count - first)):
            call(nothing, *arguments)
        await asyncio.sleep(0)


async def chained_calls(count: int) -> None:
    """Each schedules the next, so that each is a turn of the loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call(left: int) -> None:
        if left:
            loop.call_soon(call, left - 1)
        else:
            done.set_result(None)

    call(count)
    await done


async def timers_set_and_cancelled(count: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):
        loop.call_later(10, nothing).cancel()
        if number % 1000 == 0:
            await asyncio.sleep(0)


async def timers_fired(count: int) -> None:
    """Within a millisecond, which is much less than so many take."""
    loop = asyncio.get_running_loop()
    for first in range(0, count, TIMERS_AT_ONCE):
        number = min(TIMERS_AT_ONCE, count - first)
        done = loop.create_future()
        for each in range(number):
            loop.call_later(each / TIMERS_AT_ONCE / 1000, nothing)
        loop.call_later(0.001, done.set_result, None)
        await done


async def sleep_0(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def futures(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def tasks(count: int) -> None:
    async def body() -> None:
        pass

    for _ in range(count):
        await asyncio.create_task(body())


async def gather(count: int) -> None:
    """For each coroutine of a hundred."""
    for _ in range(max(1, count // GATHERED)):
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(GATHERED)))


async def queue(count: int) -> None:
    """Items by a queue with room for one, so that each item wakes the task that waits for it, or for room."""
    items: asyncio.Queue[int] = asyncio.Queue(1)

    async def put() -> None:
        for number in range(count):
            await items.put(number)

    putting = asyncio.create_task(put())
    for number in range(count):
        _checked(await items.get() == number)
    await putting


async def loop_made_and_closed(count: int) -> None:
    """A loop that runs `sleep(0)`, in a thread, because this one's loop runs."""
    loop = asyncio.get_running_loop()

    def make() -> None:
        for _ in range(count):
            other = new_loop()
            other.run_until_complete(asyncio.sleep(0))
            other.close()

    await loop.run_in_executor(None, make)


async def to_thread(count: int) -> None:
    for _ in range(count):
        await asyncio.to_thread(nothing)


async def run_in_executor_200_at_once(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(max(1, count // EXECUTED_AT_ONCE)):
        await asyncio.gather(*(loop.run_in_executor(None, nothing) for _ in range(EXECUTED_AT_ONCE)))


async def call_soon_threadsafe_from_a_thread(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    with running(call):
        await done


async def call_soon_threadsafe_from_a_thread_one_by_one(count: int) -> None:
    """The thread waits for each call, so that the loop sleeps before the next."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    answers: SimpleQueue[None] = SimpleQueue()

    def call() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(answers.put, None)
            answers.get()
        loop.call_soon_threadsafe(done.set_result, None)

    with running(call):
        await done


async def run_coroutine_threadsafe(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    async def body() -> None:
        pass

    def call() -> None:
        for _ in range(count):
            asyncio.run_coroutine_threadsafe(body(), loop).result()
        loop.call_soon_threadsafe(done.set_result, None)

    with running(call):
        await done


@contextlib.contextmanager
def running(call: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=call)
    thread.start()
    yield
    thread.join()


async def spawn(count: int) -> None:
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/true")
        _checked(await process.wait() == 0)


async def spawn_8_at_once(count: int) -> None:
    for _ in range(max(1, count // SPAWNED_AT_ONCE)):
        await asyncio.gather(*(spawn(1) for _ in range(SPAWNED_AT_ONCE)))


async def spawn_and_pipe_64_kib(count: int) -> None:
    pipe = asyncio.subprocess.PIPE
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=pipe, stdout=pipe)
        output, _ = await process.communicate(PIPED)
        _checked(output == PIPED)


async def getaddrinfo_of_localhost(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        _checked(found == FOUND)


async def getaddrinfo_of_localhost_16_at_once(count: int) -> None:
    each = max(1, count // LOOKED_UP_AT_ONCE)
    await asyncio.gather(*(getaddrinfo_of_localhost(each) for _ in range(LOOKED_UP_AT_ONCE)))


async def getnameinfo_of_localhost(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        _checked(await loop.getnameinfo(("127.0.0.1", 80)) == NAMED)


def _checked(right: bool) -> None:
    if not right:
        raise ValueError("the answer is wrong")


#: How many it does for each `count`, at the least.
AT_LEAST = {
    "gather": GATHERED,
    "run_in_executor_200_at_once": EXECUTED_AT_ONCE,
    "spawn_8_at_once": SPAWNED_AT_ONCE,
    "getaddrinfo_of_localhost_16_at_once": LOOKED_UP_AT_ONCE,
    "psycopg_select_8_at_once": conversations.AT_ONCE,
    "grpc_call_8_at_once": conversations.AT_ONCE,
    **dict.fromkeys(clients.QUESTIONS, clients.AT_ONCE),
}
QUESTIONS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    question.__name__: question
    for question in (
        call_soon,
        call_soon_with_arguments,
        call_soon_threadsafe,
        chained_calls,
        timers_set_and_cancelled,
        timers_fired,
        sleep_0,
        futures,
        tasks,
        gather,
        queue,
        loop_made_and_closed,
        to_thread,
        run_in_executor_200_at_once,
        call_soon_threadsafe_from_a_thread,
        call_soon_threadsafe_from_a_thread_one_by_one,
        run_coroutine_threadsafe,
        spawn,
        spawn_8_at_once,
        spawn_and_pipe_64_kib,
        getaddrinfo_of_localhost,
        getaddrinfo_of_localhost_16_at_once,
        getnameinfo_of_localhost,
    )
}
SPAWNING = [name for name in QUESTIONS if name.startswith("spawn")]
NAMES = [name for name in QUESTIONS if name.startswith("get")]
THREADS = [name for name in QUESTIONS if "thread" in name or "executor" in name]
THREADS.remove(call_soon_threadsafe.__name__)  # from the loop's own
SCHEDULING = [name for name in QUESTIONS if name not in (*SPAWNING, *NAMES, *THREADS)]
QUESTIONS |= clients.QUESTIONS | conversations.QUESTIONS | messages.QUESTIONS
QUESTIONS |= readiness.QUESTIONS | streams.QUESTIONS


async def timed(question: Callable[[int], Awaitable[None]], seconds: float, at_least: int) -> tuple[float, float]:
    """Return the seconds that each took, and the seconds of CPU, a wait awake included."""
    count = at_least
    while True:
        began, cpu_began = time.perf_counter(), time.process_time()
        await question(count)
        took, cpu_took = time.perf_counter() - began, time.process_time() - cpu_began
        if took >= seconds / 2:
            return took / count, cpu_took / count
        count = int(count * max(2, min(GROWTH_MAX, seconds / took))) // at_least * at_least


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what it is asked on standard input.")
    parser.add_argument(
        "--loop", choices=[*contenders.LOOPS, *contenders.TRANSPORTS, *contenders.STREAMS], required=True
    )
    options = parser.parse_args()
    global new_loop
    new_loop = contenders.factory(options.loop)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for line in sys.stdin:
            name, seconds = line.split()
            at_least = AT_LEAST.get(name, 1)
            if name in conversations.QUESTIONS:
                runner.run(QUESTIONS[name](at_least))  # begins it
            each_s, cpu_s = runner.run(timed(QUESTIONS[name], float(seconds), at_least))
            print(json.dumps({"value": each_s * 1e6, "cpu_us": cpu_s * 1e6}), flush=True)


if __name__ == "__main__":
    main()
