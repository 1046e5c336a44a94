"""A part of what io_uring needs is refused: a loop runs on epoll, and nothing is left behind.

Where io_uring was asked for, one error with its cause.
"""

import os

import pytest

from tests.children import script
from tests.kernel import needs

from .seccomp import _ARCHITECTURES

needs_filter = pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")

PREPARED = """
import asyncio, errno, functools, gc, mmap, os, pathlib, resource, sys, threading, time, warnings
import uringloop
from tests.housekeeping import open_descriptors
from tests.refused import seccomp, unprivileged
from uringloop import files
from uringloop.ring import Register, Ring

def mappings():
    return [line for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if "io_uring" in line]

def must_be_unavailable(function):
    "The error has a cause and a remedy, and no descriptor and no mapping of a ring is left."
    before = open_descriptors(), mappings()
    try:
        function()
    except uringloop.RingUnavailableError as error:
        assert error.cause and error.remedy and error.errno, error
        print(errno.errorcode[error.errno])
    else:
        raise AssertionError("not refused")
    assert (open_descriptors(), mappings()) == before

async def echo():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    return asyncio.get_running_loop().backend

on_io_uring = functools.partial(uringloop.EventLoop, backend="io_uring")

def on_epoll():
    "What needs no io_uring runs, and leaves nothing behind."
    before = open_descriptors(), mappings()
    for sleep in ("auto", "selector", "ring"):
        loop = uringloop.EventLoop(sleep=sleep)
        assert loop.backend == "epoll"
        assert loop.run_until_complete(echo()) == "epoll"
        loop.close()
    assert (open_descriptors(), mappings()) == before
    print(uringloop.run(echo()))

def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
"""

#: What is refused; a loop cannot be made on io_uring then.
WAYS = {
    "eventfd": "seccomp.refuse(errno.EPERM, seccomp.EVENTFD)",
    "eventfd, unknown": "seccomp.refuse(errno.ENOSYS, seccomp.EVENTFD)",
    "register": "seccomp.refuse(errno.EPERM, seccomp.REGISTER)",
    "enable": "seccomp.refuse_register(errno.EPERM, Register.ENABLE_RINGS)",
    "register the eventfd": "seccomp.refuse_register(errno.EPERM, Register.EVENTFD)",
    "register the eventfd, no memory": "seccomp.refuse_register(errno.ENOMEM, Register.EVENTFD)",
    "enter": "seccomp.refuse(errno.EACCES, seccomp.ENTER)",
    "no memory": "seccomp.refuse(errno.ENOMEM)",
}


@needs_filter
@pytest.mark.parametrize("way", WAYS)
def test_it_is_one_error(way: str) -> None:
    source = f"""
{WAYS[way]}
must_be_unavailable(on_io_uring)
must_be_unavailable(lambda: on_io_uring(sleep="selector"))
print(uringloop.is_available())
on_epoll()
"""
    first, second, available, backend = script(PREPARED + source).splitlines()
    assert first == second
    assert first in ("EPERM", "ENOSYS", "ENOMEM", "EACCES")
    assert (available, backend) == ("False", "epoll")


@needs_filter
@pytest.mark.parametrize("way", ["register", "enable", "enter"])
@needs("io_uring")
def test_refused_between_the_making_of_a_loop_and_its_first_run(way: str) -> None:
    source = f"""
loops = [uringloop.EventLoop(sleep=sleep) for sleep in ("auto", "selector", "ring")]
asked = on_io_uring()
busy = uringloop.EventLoop()
numbers = busy.submit_multishot(Timeout(10**9))
other = uringloop.EventLoop()
print(*(loop.backend for loop in loops))
{WAYS[way]}
for loop in loops:
    print(loop.run_until_complete(echo()), loop.backend)
    in_thread(lambda: print(loop.run_until_complete(echo())))
    loop.close()
in_thread(lambda: print("in a thread:", other.run_until_complete(echo())))
other.close()
warnings.simplefilter("ignore")
for loop in (asked, busy):
    must_be_unavailable(lambda: loop.run_until_complete(asyncio.sleep(0)))
    loop.close()
must_have_no_ring()
"""
    prepared = """
from uringloop.operations import Timeout
def must_have_no_ring():
    assert not [what for what in open_descriptors().values() if "io_uring" in what] + mappings()
"""
    made, *ran, in_thread, asked, busy = script(PREPARED + prepared + source).splitlines()
    assert made == "io_uring io_uring io_uring"
    assert ran == ["epoll epoll", "epoll"] * 3
    assert in_thread == "in a thread: epoll"
    assert asked == busy
    assert asked in ("EPERM", "EACCES")


@needs_filter
@pytest.mark.parametrize("way", WAYS)
@needs("io_uring")
def test_refused_before_a_run_in_another_thread(way: str) -> None:
    """The loop goes on there on epoll, with its server, and then wherever it is run."""
    source = f"""
for sleep in ("auto", "selector", "ring"):
    loop = uringloop.EventLoop(sleep=sleep)
    heard = []
    server = loop.run_until_complete(serve())
    loops.append((loop, server))
    print(loop.run_until_complete(connect(server)))
asked = on_io_uring()
asked.run_until_complete(asyncio.sleep(0))
{WAYS[way]}
for loop, server in loops:
    in_thread(lambda: print(loop.run_until_complete(connect(server))))
    print(loop.run_until_complete(connect(server)))
    in_thread(lambda: loop.run_until_complete(end(server)))
    loop.close()
warnings.simplefilter("ignore")
in_thread(lambda: must_be_unavailable(lambda: asked.run_until_complete(asyncio.sleep(0))))
"""
    prepared = """
loops = []
async def serve():
    return await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)

async def connect(server):
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    while asyncio.get_running_loop().statistics()["streams"]:
        await asyncio.sleep(0.001)
    return asyncio.get_running_loop().backend

async def end(server):
    server.close()
    await server.wait_closed()
"""
    answers = script(PREPARED + prepared + source).splitlines()
    assert answers[:9] == [*["io_uring"] * 3, *["epoll"] * 6]
    assert answers[9] in ("EPERM", "ENOSYS", "ENOMEM", "EACCES")


@needs_filter
@pytest.mark.parametrize("way", WAYS)
def test_a_companion_runs_on_epoll(way: str) -> None:
    """Files on a loop that is not ours."""
    source = f"""
{WAYS[way]}
async def main():
    async with files.open("/proc/self/status", "rb") as file:
        print(type(file).__module__, asyncio.get_running_loop()._uringloop_companion.ring.backend)
        return (await file.read(5)).decode()
before = open_descriptors(), mappings()
print(asyncio.run(main()))
assert (open_descriptors(), mappings()) == before
"""
    assert script(PREPARED + source) == "uringloop.files.layers.reading epoll\nName:\n"


@needs_filter
@pytest.mark.parametrize("opcode", ["PBUF_RING", "IOWQ_MAX_WORKERS"])
@pytest.mark.parametrize("sleep", ["ring", "selector"])
@needs("io_uring")
def test_what_a_loop_can_do_without(opcode: str, sleep: str) -> None:
    source = f"""
seccomp.refuse_register(errno.EPERM, Register.{opcode})
print(uringloop.is_available(), uringloop.run(echo(), sleep={sleep!r}))
"""
    assert script(PREPARED + source) == "True io_uring\n"


@needs_filter
@pytest.mark.parametrize("opcode", ["PROBE", "IOWQ_MAX_WORKERS", "RESIZE_RINGS"])
def test_the_second_loop_does_not_ask_the_kernel_again(opcode: str) -> None:
    """The kernel stays the same, and the limit of workers holds for the thread."""
    source = f"""
def abilities():
    loop = uringloop.new_event_loop()
    name = loop.run_until_complete(echo())
    found = loop.ring.features, loop.ring.entries
    loop.close()
    return name, found
first = abilities()
seccomp.kill_register(Register.{opcode})
print(abilities() == first)
"""
    assert script(PREPARED + source) == "True\n"


@needs("io_uring")
def test_no_address_space_for_the_queues() -> None:
    """mmap(2) fails, here for the completion queue."""
    source = """
must_be_unavailable(lambda: grow() and Ring(cq_entries=65536))
"""
    prepared = """
def grow():
    # Room for Python to go on, not for a queue of a megabyte.
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + 700_000, resource.RLIM_INFINITY))
    return True
gc.collect()
"""
    assert script(PREPARED + prepared + source) == "ENOMEM\n"


@needs_root
@pytest.mark.parametrize("kib", [0, 16, 64, 96, 104, 112, 128, 144, 160, 256])
@needs("io_uring")
def test_little_memory_for_rings(kib: int) -> None:
    """Whatever the limit: a loop works, on io_uring or on epoll."""
    source = """
uringloop.run(echo(), backend="epoll")
unprivileged.become_nobody(memory_bytes=int(sys.argv[1]) * 1024)
try:
    loop = on_io_uring()
except uringloop.RingUnavailableError as error:
    assert error.errno == errno.ENOMEM and "RLIMIT_MEMLOCK" in error.cause, error
    del error
    must_be_unavailable(on_io_uring)
    on_epoll()
else:
    loop.run_until_complete(echo())
    loop.close()
    print(uringloop.run(echo()))
"""
    answer = script(PREPARED + source, str(kib)).splitlines()
    assert answer in (["io_uring"], ["ENOMEM", "epoll"])


@needs_root
@needs("io_uring")
def test_one_run_after_the_other() -> None:
    """There is memory for one: the kernel gives back a moment later what the first was charged."""
    source = """
uringloop.run(echo(), backend="epoll")
unprivileged.become_nobody(memory_bytes=200 * 1024)
for _ in range(5):
    print(uringloop.run(echo()))
"""
    assert script(PREPARED + source) == "io_uring\n" * 5


@needs_root
@needs("io_uring")
def test_no_memory_for_the_ring_of_another_thread() -> None:
    """A loop that was asked to stay on io_uring goes on where it ran; another one goes to the thread on epoll."""
    source = """
loop, free = on_io_uring(), uringloop.EventLoop()
loop.run_until_complete(echo())
free.run_until_complete(echo())
unprivileged.become_nobody(memory_bytes=200 * 1024)
ring = Ring(256, cq_entries=2048)

def elsewhere():
    must_be_unavailable(lambda: loop.run_until_complete(asyncio.sleep(0)))

others = []
try:
    while len(others) < 100:
        others.append(Ring(8))
except uringloop.RingUnavailableError:
    pass
warnings.simplefilter("ignore")
in_thread(elsewhere)
in_thread(lambda: print(free.run_until_complete(echo())))
print(loop.run_until_complete(echo()))
for other in [ring, *others]:
    other.close()
time.sleep(0.2)
in_thread(lambda: print(loop.run_until_complete(echo())))
loop.close()
free.close()
"""
    assert script(PREPARED + source) == "ENOMEM\nepoll\nio_uring\nio_uring\n"


@pytest.mark.parametrize(
    ("backend", "errors"),
    [
        pytest.param("io_uring", {"RingUnavailableError", "OSError"}, marks=needs("io_uring")),
        ("auto", {"OSError"}),
    ],
)
def test_no_descriptor_left_for_a_loop(backend: str, errors: set[str]) -> None:
    """At each step of making one; epoll takes as many, so it is no way out."""
    source = f"""
backend = {backend!r}
gc.collect()
before = open_descriptors()
highest = max(before)
for room in range(1, 10):
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        loop = uringloop.EventLoop(backend=backend)
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        print(type(error).__name__)
    else:
        loop.close()
        print("made")
        break
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    gc.collect()
    assert open_descriptors() == before
    assert not mappings()
"""
    lines = script(PREPARED + source).splitlines()
    assert lines[-1] == "made"
    assert set(lines[:-1]) == errors
