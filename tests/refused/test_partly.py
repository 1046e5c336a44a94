"""A part of what a loop needs is refused: one error with its cause, a fallback that works, and nothing left behind."""

import os

import pytest

from tests.children import script

from .seccomp import _ARCHITECTURES

needs_filter = pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")

PREPARED = """
import asyncio, errno, gc, mmap, os, pathlib, resource, sys, threading, time, warnings
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
    return type(asyncio.get_running_loop()).__name__

def falls_back():
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        loop = uringloop.new_event_loop(fallback=True)
        print(loop.run_until_complete(echo()))
        loop.close()
        print(uringloop.run(echo(), fallback=True))
"""

#: What is refused; a loop cannot be made then.
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
must_be_unavailable(uringloop.EventLoop)
must_be_unavailable(lambda: uringloop.EventLoop(sleep="selector"))
print(uringloop.is_available())
falls_back()
"""
    first, second, available, *fallen = script(PREPARED + source).splitlines()
    assert first == second
    assert first in ("EPERM", "ENOSYS", "ENOMEM", "EACCES")
    assert (available, fallen) == ("False", ["_UnixSelectorEventLoop"] * 2)


@needs_filter
@pytest.mark.parametrize("way", WAYS)
def test_files_go_to_threads(way: str) -> None:
    """On a loop that is not ours, a companion cannot be made either."""
    source = f"""
{WAYS[way]}
async def main():
    async with files.open("/proc/self/status", "rb") as file:
        return (await file.read(5)).decode()
before = open_descriptors(), mappings()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(asyncio.run(main()))
assert (open_descriptors(), mappings()) == before
print(*(warning.category.__name__ for warning in caught))
"""
    assert script(PREPARED + source) == "Name:\nRuntimeWarning\n"


@needs_filter
@pytest.mark.parametrize("opcode", ["PBUF_RING", "IOWQ_MAX_WORKERS"])
@pytest.mark.parametrize("sleep", ["ring", "selector"])
def test_what_a_loop_can_do_without(opcode: str, sleep: str) -> None:
    source = f"""
seccomp.refuse_register(errno.EPERM, Register.{opcode})
print(uringloop.is_available(), uringloop.run(echo(), sleep={sleep!r}))
"""
    assert script(PREPARED + source) == "True EventLoop\n"


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
def test_little_memory_for_rings(kib: int) -> None:
    """Whatever the limit: a loop that works, or the error and the fallback."""
    source = """
asyncio.run(echo())
unprivileged.become_nobody(memory_bytes=int(sys.argv[1]) * 1024)
try:
    loop = uringloop.EventLoop()
except uringloop.RingUnavailableError as error:
    assert error.errno == errno.ENOMEM and "RLIMIT_MEMLOCK" in error.cause, error
    del error
    must_be_unavailable(uringloop.EventLoop)
    falls_back()
else:
    loop.run_until_complete(echo())
    loop.close()
    print("made")
"""
    answer = script(PREPARED + source, str(kib)).splitlines()
    assert answer in (["made"], ["ENOMEM", *["_UnixSelectorEventLoop"] * 2])


@needs_root
def test_one_run_after_the_other() -> None:
    """There is memory for one: the kernel gives back a moment later what the first was charged."""
    source = """
asyncio.run(echo())
unprivileged.become_nobody(memory_bytes=200 * 1024)
for _ in range(5):
    print(uringloop.run(echo()))
"""
    assert script(PREPARED + source) == "EventLoop\n" * 5


@needs_root
def test_no_memory_for_the_ring_of_another_thread() -> None:
    """The loop goes on where it ran."""
    source = """
loop = uringloop.EventLoop()
loop.run_until_complete(echo())
others = []
unprivileged.become_nobody(memory_bytes=200 * 1024)
ring = Ring(256, cq_entries=2048)

def elsewhere():
    must_be_unavailable(lambda: loop.run_until_complete(asyncio.sleep(0)))

def run(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()

others = []
try:
    while len(others) < 100:
        others.append(Ring(8))
except uringloop.RingUnavailableError:
    pass
warnings.simplefilter("ignore")
run(elsewhere)
print(loop.run_until_complete(echo()))
for other in [ring, *others]:
    other.close()
time.sleep(0.2)
run(lambda: print(loop.run_until_complete(echo())))
loop.close()
"""
    assert script(PREPARED + source) == "ENOMEM\nEventLoop\nEventLoop\n"


def test_no_descriptor_left_for_a_loop() -> None:
    """At each step of making one."""
    source = """
gc.collect()
before = open_descriptors()
highest = max(before)
for room in range(1, 8):
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        loop = uringloop.EventLoop()
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
    assert set(lines[:-1]) == {"RingUnavailableError", "OSError"}
