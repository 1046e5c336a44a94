"""os.fork() with a live loop: the child is told, the parent goes on."""

import pytest

from tests.children import script

pytestmark = pytest.mark.usefixtures("backend")

#: A server and a connected client on `loop`, with bytes under way both ways.
CONNECTED = """
import asyncio, gc, os, sys, uringloop, warnings

class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)

loop = uringloop.EventLoop(sleep=sys.argv[1])

async def connect():
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    return server, reader, writer

async def exchange(reader, writer, size=300_000):
    writer.write(bytes(size))
    assert await reader.readexactly(size) == bytes(size)

async def finish(server, writer):
    writer.close()
    await writer.wait_closed()
    # On 3.11 the next wait_closed() does not wait for the server's connections.
    while asyncio.get_running_loop().statistics()["streams"]:
        await asyncio.sleep(0.001)
    server.close()
    await server.wait_closed()

def wait_for(child):
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status

def in_child(function):
    sys.stdout.flush()
    # A worker of io_uring counts as a thread, of which fork warns from Python 3.12 on.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        child = os.fork()
    if child:
        return child
    try:
        function()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
"""

each_sleep = pytest.mark.parametrize("sleep", ["auto", "ring", "selector"])


@each_sleep
def test_child_is_told_and_parent_goes_on(sleep: str) -> None:
    answer = script(
        CONNECTED
        + """
server, reader, writer = loop.run_until_complete(connect())
loop.run_until_complete(exchange(reader, writer))
writer.write(b"under way")

def child():
    for run in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
        try:
            run()
        except RuntimeError as error:
            print(error)
    loop.close()
    assert loop.is_closed()

wait_for(in_child(child))
assert loop.run_until_complete(reader.readexactly(9)) == b"under way"
loop.run_until_complete(exchange(reader, writer))
loop.run_until_complete(finish(server, writer))
loop.close()
print("parent went on")
""",
        sleep,
    )
    *told, parent = answer.splitlines()
    assert len(told) == 2
    for line in told:
        assert "made before fork()" in line
        assert "new_event_loop()" in line
    assert parent == "parent went on"


@each_sleep
def test_fork_inside_the_running_loop(sleep: str) -> None:
    answer = script(
        CONNECTED
        + """
async def main():
    server, reader, writer = await connect()
    await exchange(reader, writer)

    def child():
        async def other():
            await asyncio.sleep(0.001)
            server, reader, writer = await connect_on_fresh()
            return "child went on"
        async def connect_on_fresh():
            fresh = asyncio.get_running_loop()
            assert fresh is not loop
            server = await fresh.create_server(Echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await exchange(reader, writer)
            await finish(server, writer)
            return server, reader, writer
        print(uringloop.run(other(), sleep=sys.argv[1]))

    process = in_child(child)
    await exchange(reader, writer)
    wait_for(process)
    await exchange(reader, writer)
    await finish(server, writer)

loop.run_until_complete(main())
loop.close()
print("parent went on")
""",
        sleep,
    )
    assert answer == "child went on\nparent went on\n"


@each_sleep
def test_fresh_loop_in_the_child(sleep: str) -> None:
    """A Runner in the child, on a ring and a thread's worth of workers of its own, files included."""
    answer = script(
        CONNECTED
        + """
server, reader, writer = loop.run_until_complete(connect())

def child():
    from uringloop import files
    async def main():
        async with files.open("/proc/self/status", "rb") as file:
            content = await file.read()
        assert b"Pid:\\t%d\\n" % os.getpid() in content
        return "child went on"
    with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
        print(runner.run(main()))

wait_for(in_child(child))
loop.run_until_complete(exchange(reader, writer))
loop.run_until_complete(finish(server, writer))
loop.close()
""",
        sleep,
    )
    assert answer == "child went on\n"


@each_sleep
def test_closing_in_the_child_takes_nothing_from_the_parent(sleep: str) -> None:
    """Neither its readers, which are in an epoll set that both see, nor its signals, nor its threads' calls."""
    answer = script(
        CONNECTED
        + """
import signal, threading
source, sink = os.pipe()
heard = asyncio.Queue()
loop.add_reader(source, lambda: heard.put_nowait(os.read(source, 100)))
loop.add_signal_handler(signal.SIGUSR1, heard.put_nowait, "signal")
loop.run_until_complete(asyncio.sleep(0))

def child():
    loop.close()

wait_for(in_child(child))

async def main():
    os.write(sink, b"readable")
    assert await heard.get() == b"readable"
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await heard.get() == "signal"
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(heard.put_nowait, "thread"))
    thread.start()
    assert await heard.get() == "thread"
    thread.join()

loop.run_until_complete(asyncio.wait_for(main(), 10))
loop.remove_reader(source)
loop.remove_signal_handler(signal.SIGUSR1)
loop.close()
os.close(source)
os.close(sink)
print("parent went on")
""",
        sleep,
    )
    assert answer == "parent went on\n"


def test_child_has_no_ring(backend: str) -> None:
    """Its copy is closed, or it would keep the parent's operations alive."""
    answer = script(
        CONNECTED
        + """
server, reader, writer = loop.run_until_complete(connect())

def rings():
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return [os.readlink(path) for path in paths if os.path.lexists(path)].count(f"anon_inode:{sys.argv[2]}")

print(rings())
wait_for(in_child(lambda: print(rings())))
loop.run_until_complete(exchange(reader, writer))
loop.run_until_complete(finish(server, writer))
loop.close()
""",
        "ring",
        "[io_uring]" if backend == "io_uring" else "[eventpoll]",
    )
    # On epoll the selector has a set, too, and the ring's set has a second descriptor.
    assert answer == ("1\n0\n" if backend == "io_uring" else "3\n2\n")


DROPPED = """
import warnings
server, reader, writer = loop.run_until_complete(connect())

def child():
    warnings.simplefilter("ignore")
    global server, reader, writer
    {what}
    del server, reader, writer
    gc.collect()
    print("dropped")

wait_for(in_child(child))
loop.run_until_complete(exchange(reader, writer))
loop.run_until_complete(finish(server, writer))
loop.close()
"""


@pytest.mark.parametrize(
    "what", ["pass", "loop.close()", "writer.close()", "writer.transport.abort()", "server.close()"]
)
def test_dropping_everything_in_the_child(what: str) -> None:
    """A child that has no use for what it inherited may close it or not: it hears nothing, and nor does the parent."""
    assert script(CONNECTED + DROPPED.format(what=what), "ring") == "dropped\n"


def test_files_in_the_child_say_what_is_wrong() -> None:
    answer = script(
        CONNECTED
        + """
from uringloop import files

async def main():
    file = await files.open("/dev/null", "rb")

    def child():
        call = file.read()
        try:
            call.send(None)
        except RuntimeError as error:
            print(error)

    wait_for(in_child(child))
    assert await file.read() == b""
    await file.close()

loop.run_until_complete(main())
loop.close()
""",
        "ring",
    )
    assert "made before fork()" in answer
