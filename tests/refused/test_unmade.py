"""A loop whose ring is not made yet, because nothing has needed it: all but the first of a process are such."""

import pytest

import uringloop
from tests.children import script
from tests.kernel import needs

#: The first loop's ring is made with it.
PREPARED = """
import asyncio, errno, gc, os, resource, signal, socket, sys, threading, warnings
import uringloop
from tests.housekeeping import open_descriptors
from tests.refused import seccomp, unprivileged

backend = sys.argv[1]
def new_loop():
    return uringloop.EventLoop(backend=backend)
first = new_loop()
first.run_until_complete(asyncio.sleep(0.001))
first.close()
gc.collect()
before = open_descriptors()

def is_made(loop):
    return loop._ring is not None

async def sleep_until_made():
    "A sleep of which a busy machine uses up the time beforehand makes none."
    loop = asyncio.get_running_loop()
    while not is_made(loop):
        await asyncio.sleep(0.001)

def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]
"""
#: What each choice leads to here.
CHOSEN = {"auto": "io_uring" if uringloop.is_available() else "epoll", "epoll": "epoll"}
each_backend = pytest.mark.parametrize("backend", ["auto", "epoll"])


@each_backend
def test_tasks_and_calls_of_threads_need_none(backend: str) -> None:
    source = """
async def main():
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
    done = []
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(done.append, 1))
    thread.start()
    thread.join()
    while not done:
        await asyncio.sleep(0)
loop = new_loop()
loop.run_until_complete(main())
assert not is_made(loop)
assert loop.statistics()["enters"] == 0
print(loop, is_made(loop))
loop.close()
print(loop)
assert loop.backend
gc.collect()
assert open_descriptors() == before
"""
    state = "<EventLoop running=False closed={} debug=False backend=" + CHOSEN[backend] + ">"
    assert script(PREPARED + source, backend) == f"{state.format(False)} False\n{state.format(True)}\n"


NEEDS = [
    "await sleep_until_made()",
    "await loop.submit(uringloop.operations.Nop())",
    "loop.add_signal_handler(signal.SIGUSR1, print)",
    "loop.add_reader(listener, print); await asyncio.sleep(0); loop.remove_reader(listener)",
    "await loop.sock_connect(sender, listener.getsockname())",
    "assert loop.opcodes",
    "assert loop.ring",
    "assert loop.backend",
    "await asyncio.start_server(print, '127.0.0.1', 0)",
    "await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ('127.0.0.1', 0))",
]


@each_backend
def test_each_need_makes_it(backend: str) -> None:
    source = """
import uringloop.operations
warnings.simplefilter("ignore")
listener, sender = socket.create_server(("127.0.0.1", 0)), socket.socket()
sender.setblocking(False)
"""
    for need in NEEDS:
        source += f"""
async def main():
    loop = asyncio.get_running_loop()
    assert not is_made(loop)
    {need}
    assert is_made(loop)
loop = new_loop()
loop.run_until_complete(main())
loop.close()
"""
    assert script(PREPARED + source, backend) == ""


@needs("io_uring")
def test_no_memory_is_charged_and_a_later_refusal_leads_to_epoll() -> None:
    source = """
unprivileged.become_nobody(memory_bytes=0)
loops = [new_loop() for _ in range(300)]
for loop in loops:
    loop.run_until_complete(asyncio.sleep(0))
print(loops[0])
async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    return loop.backend, loop.statistics()["backend"]
print(*loops[0].run_until_complete(main()))
print(loops[0])
for loop in loops:
    loop.close()
"""
    state = "<EventLoop running=False closed=False debug=False backend={}>\n"
    expected = state.format("io_uring") + "epoll epoll\n" + state.format("epoll")
    assert script(PREPARED + source, "auto") == expected


@each_backend
def test_a_program_that_used_up_the_descriptors_gets_one_still(backend: str) -> None:
    source = """
loop = new_loop()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 10, hard))
async def main():
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError as error:
        assert error.errno == errno.EMFILE
    assert not is_made(loop)
    await sleep_until_made()
    print("slept")
    for fd in held:
        os.close(fd)
loop.run_until_complete(main())
loop.close()
gc.collect()
assert open_descriptors().keys() == before.keys()
"""
    assert script(PREPARED + source, backend) == "slept\n"


@each_backend
def test_threads(backend: str) -> None:
    """Any thread may run it, and one that does not is told nothing false."""
    source = """
loop = new_loop()
in_thread(lambda: loop.run_until_complete(asyncio.sleep(0)))
loop.run_until_complete(asyncio.sleep(0))
assert not is_made(loop)

async def main():
    "While the loop runs, another thread asks for its backend, and for its ring."
    print(in_thread(lambda: loop.backend))
    def ask():
        try:
            return loop.ring
        except RuntimeError as error:
            return error
    print(in_thread(ask))
    assert not is_made(loop)
    await sleep_until_made()
in_thread(lambda: loop.run_until_complete(main()))
loop.run_until_complete(asyncio.sleep(0.001))
loop.close()

loop = new_loop()
print(loop.backend)  # made in this thread, before the first run, which is another's
in_thread(lambda: loop.run_until_complete(asyncio.sleep(0.001)))
loop.close()
"""
    refusal = "this io_uring belongs to the thread that enabled it; use it there, or make one for each thread"
    assert script(PREPARED + source, backend) == f"{CHOSEN[backend]}\n{refusal}\n{CHOSEN[backend]}\n"


@each_backend
def test_a_fork(backend: str) -> None:
    """As with a ring: the child may not run the loop, and goes on with no tick of a run that it is in."""
    source = """
warnings.simplefilter("ignore", DeprecationWarning)
def forked(function):
    child = os.fork()
    if child == 0:
        try:
            function()
        except RuntimeError as error:
            os._exit(3 if "fork()" in str(error) else 4)
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

loop = new_loop()
print(forked(lambda: loop.run_until_complete(asyncio.sleep(0))))
print(forked(lambda: loop.ring))
print(forked(lambda: asyncio.run(asyncio.sleep(0), loop_factory=new_loop)) if sys.version_info >= (3, 12) else 5)

async def main():
    child = os.fork()
    if child == 0:
        os.close(2)  # from Python 3.14 on asyncio complains of a loop that is not the running one
        await asyncio.sleep(0)
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
parent = os.getpid()
try:
    print(loop.run_until_complete(main()))
except RuntimeError:
    os._exit(3)
finally:
    if os.getpid() == parent:
        loop.close()
"""
    assert script(PREPARED + source, backend) == "3\n3\n5\n3\n"


@each_backend
def test_a_thread_makes_it_while_another_begins_to_run(backend: str) -> None:
    """The one thread makes the ring just as the other begins: the run finds it, and starts it."""
    source = """
loop = new_loop()
opening, go_on = threading.Event(), threading.Event()
open_ring = type(loop._options).open_ring
def slow(*arguments, **keywords):
    opening.set()
    go_on.wait()
    return open_ring(*arguments, **keywords)
type(loop._options).open_ring = slow
asking = threading.Thread(target=lambda: print(loop.backend))
asking.start()
opening.wait()
running = threading.Thread(target=lambda: loop.run_until_complete(asyncio.sleep(0.001)))
running.start()
go_on.set()
asking.join()
running.join()
loop.close()
"""
    assert script(PREPARED + source, backend) == f"{CHOSEN[backend]}\n"


def test_other_options_and_a_choice_of_io_uring_are_tried_at_once() -> None:
    source = """
seccomp.refuse(errno.EPERM, seccomp.SETUP)
for make in (lambda: uringloop.EventLoop(without={"nonsense"}), lambda: uringloop.EventLoop(sq_entries=0)):
    try:
        make()
    except ValueError:
        print("refused")
try:
    uringloop.EventLoop(backend="io_uring")
except uringloop.RingUnavailableError:
    print("refused")
"""
    assert script(PREPARED + source, "auto") == "refused\n" * 3


@each_backend
def test_an_interrupt_at_any_line_of_its_making_leaves_the_loop_as_it_was(backend: str) -> None:
    source = """
from pathlib import Path
from uringloop.loop_ring import RingKeeping
from uringloop.options import Options
from uringloop.ring import LoopRing

def new_loop():
    "Return a loop whose epoll set gets a descriptor of the ring."
    return uringloop.EventLoop(backend=backend, sleep="selector")
new_loop().close()

MAKING = (
    RingKeeping._make_ring, RingKeeping._open_ring, RingKeeping._use_ring, LoopRing.use_dispatcher,
    Options.open_ring, Options._open_ring,
)
codes = {function.__code__ for function in MAKING}

def interrupt_at(line):
    count = 0
    def trace(frame, event, argument):
        nonlocal count
        if event == "line":
            count += 1
            if count == line:
                raise KeyboardInterrupt
        return trace
    sys.settrace(lambda frame, event, argument: trace if frame.f_code in codes else None)

def one_run(line):
    "Return whether it was interrupted."
    loop = new_loop()
    task = loop.create_task(sleep_until_made())
    interrupted = False
    interrupt_at(line)
    try:
        loop.run_until_complete(task)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        sys.settrace(None)
    if interrupted:
        set_of_selector = Path(f"/proc/self/fdinfo/{loop._epoll_selector.fileno()}").read_text()
        assert set_of_selector.count("tfd:") == is_made(loop), (line, set_of_selector)
        assert bool(loop._reserve) != is_made(loop), line
        loop.run_until_complete(task)
    loop.close()
    del loop, task
    gc.collect()
    assert open_descriptors().keys() == before.keys(), line
    return interrupted

line = 1
while one_run(line):
    line += 1
print(line > 30)
"""
    assert script(PREPARED + source, backend) == "True\n"


@each_backend
def test_a_close_waits_for_a_thread_that_makes_it(backend: str) -> None:
    source = """
loop = new_loop()
opening, closing = threading.Event(), threading.Event()

class Lock:
    "The loop's lock; it tells that a second thread comes to it."
    lock = loop._making
    def __enter__(self):
        if opening.is_set():
            closing.set()
        self.lock.acquire()
    def __exit__(self, *_):
        self.lock.release()
loop._making = Lock()

open_ring = type(loop._options).open_ring
def slow(*arguments, **keywords):
    opening.set()
    closing.wait()
    return open_ring(*arguments, **keywords)
type(loop._options).open_ring = slow

def close():
    loop.close()
    closing.set()
making = threading.Thread(target=lambda: print(loop.backend))
making.start()
opening.wait()
ending = threading.Thread(target=close)
ending.start()
making.join()
ending.join()
assert loop.is_closed()
gc.collect()
assert open_descriptors().keys() == before.keys()
"""
    assert script(PREPARED + source, backend) == f"{CHOSEN[backend]}\n"


@each_backend
def test_none_is_made_after_a_close_that_came_first(backend: str) -> None:
    source = """
loop = new_loop()

class Lock:
    "The loop's lock, which a thread gets that closes the loop before this one gets it."
    lock = loop._making
    def __enter__(self):
        loop._making = self.lock
        in_thread(loop.close)
        self.lock.acquire()
    def __exit__(self, *_):
        self.lock.release()
loop._making = Lock()
try:
    loop.ring
except RuntimeError as error:
    print(error)
assert not is_made(loop)
gc.collect()
assert open_descriptors().keys() == before.keys()
"""
    assert script(PREPARED + source, backend) == "Event loop is closed\n"
