"""io_uring refused by a seccomp filter or by URINGLOOP_DISABLE: a loop on epoll, and a doctor that explains.

Where io_uring was asked for, a clear error.
"""

import asyncio
import json
import os
from collections.abc import Callable

import pytest

import uringloop
from tests.children import python, script
from tests.kernel import needs

from .seccomp import _ARCHITECTURES

pytestmark = pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine")

#: How a child is refused, and what its error says.
WAYS = {
    "EPERM": ("seccomp.refuse(errno.EPERM)", "EPERM", "seccomp filter", "seccomp profile that allows io_uring_setup"),
    "ENOSYS": ("seccomp.refuse(errno.ENOSYS)", "ENOSYS", "gVisor", "Use Linux 5.11 or newer"),
    # Any system call of io_uring kills the process: that it lives shows that it made none.
    "URINGLOOP_DISABLE": ("seccomp.kill()", "not available: ", "URINGLOOP_DISABLE is set", "Unset URINGLOOP_DISABLE"),
}

needs_policies = pytest.mark.skipif(
    not hasattr(asyncio, "set_event_loop_policy"), reason="Python 3.16 has no event loop policies"
)
_QUIETLY = "warnings.simplefilter('ignore', DeprecationWarning); "

PREPARED = """
import asyncio, errno, sys, warnings
from tests.refused import seccomp
{refusal}
import uringloop
"""

ECHO = """
async def echo(reader, writer):
    writer.write(await reader.read(100))
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return asyncio.get_running_loop().backend, answer
"""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def refused(way: str) -> Callable[..., str]:
    """Runs a script that is refused io_uring; returns what it printed."""

    def run(source: str, **variables: str) -> str:
        disabled = {"URINGLOOP_DISABLE": "1"} if way == "URINGLOOP_DISABLE" else {}
        return script(PREPARED.format(refusal=WAYS[way][0]) + source, **disabled, **variables)

    return run


def test_import_and_is_available(refused: Callable[..., str]) -> None:
    answer = refused("print(uringloop.is_available(), uringloop.__version__)")
    assert answer == f"False {uringloop.__version__}\n"


MAKERS = [
    "uringloop.EventLoop(backend='io_uring')",
    "uringloop.EventLoop(backend='io_uring', sleep='selector')",
    "uringloop.new_event_loop(backend='io_uring')",
    f"{_QUIETLY}uringloop.new_event_loop(fallback=False)",
    "os.environ['URINGLOOP_BACKEND'] = 'io_uring'; uringloop.EventLoop()",
    pytest.param(
        f"os.environ['URINGLOOP_BACKEND'] = 'io_uring'; {_QUIETLY}uringloop.EventLoopPolicy().new_event_loop()",
        marks=needs_policies,
    ),
    "uringloop.ring.Ring()",
]


@pytest.mark.parametrize("maker", MAKERS)
def test_error_says_why_and_what_to_do(refused: Callable[..., str], way: str, maker: str) -> None:
    answer = refused(f"""
import os
import uringloop.ring
try:
    {maker}
except uringloop.RingUnavailableError as error:
    assert isinstance(error, OSError)
    assert error.cause in str(error) and error.remedy in str(error)
    assert str(error).startswith("io_uring is not available"), error
    print(error)
""")
    _, name, cause, remedy = WAYS[way]
    assert name in answer
    assert cause in answer
    assert remedy in answer


def test_run_raises_and_leaves_no_coroutine_behind(refused: Callable[..., str]) -> None:
    answer = refused("""
async def main():
    pass
coroutine = main()
try:
    uringloop.run(coroutine, backend="io_uring")
except uringloop.RingUnavailableError:
    coroutine.close()
    print("refused")
""")
    assert answer == "refused\n"


@pytest.mark.parametrize(
    "runner",
    [
        "result = uringloop.run(main())",
        "result = uringloop.run(main(), backend='auto', sleep='selector')",
        "result = uringloop.run(main(), backend='epoll')",
        "with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner: result = runner.run(main())",
        pytest.param(f"{_QUIETLY}uringloop.install(); result = asyncio.run(main())", marks=needs_policies),
    ],
)
def test_a_loop_runs_on_epoll_without_a_warning(refused: Callable[..., str], runner: str) -> None:
    """The interpreter makes an error of any warning."""
    assert refused(f"{ECHO}\n{runner}\nprint(result)") == "('epoll', b'hello')\n"


@pytest.mark.parametrize("arguments", ["", "backend='auto'", "backend='epoll'"])
def test_a_loop_says_what_it_runs_on(refused: Callable[..., str], arguments: str) -> None:
    answer = refused(f"""
loop = uringloop.EventLoop({arguments})
print(loop.backend, loop.statistics()["backend"], loop)
loop.close()
print(loop.backend, loop)
""")
    expected = "<EventLoop running=False closed={} debug=False backend=epoll>"
    assert answer.splitlines() == [
        f"epoll epoll {expected.format(False)}",
        f"epoll {expected.format(True)}",
    ]


def test_the_log_says_so_once_for_each_reason(refused: Callable[..., str], way: str) -> None:
    answer = refused("""
import logging, os
uringloop.EventLoop().close()  # before anyone listens
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
for _ in range(3):
    uringloop.EventLoop().close()
os.environ["URINGLOOP_BACKEND"] = "epoll"
for _ in range(3):
    uringloop.EventLoop().close()
uringloop.EventLoop(backend="epoll").close()
""")
    refusal, variable, argument = answer.splitlines()
    assert refusal.startswith("uringloop INFO the backend is epoll: io_uring is not available")
    assert WAYS[way][2] in refusal
    assert variable == "uringloop INFO the backend is epoll: URINGLOOP_BACKEND=epoll asks for it"
    assert argument == 'uringloop INFO the backend is epoll: the program asks for it, with backend="epoll"'


ALL = "seccomp.refuse(errno.EPERM, seccomp.SETUP, seccomp.ENTER, seccomp.REGISTER)"

EVERYTHING = """
import os, socket
from tests.housekeeping import open_descriptors
from uringloop import files

transports = set()

class Protocol(asyncio.Protocol, asyncio.DatagramProtocol, asyncio.SubprocessProtocol):
    def connection_made(self, transport):
        transports.add(type(transport))
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
    def datagram_received(self, data, address):
        self.transport.sendto(data, address)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    transports.add(type(writer.transport))
    writer.write(bytes(1_000_000))
    assert await reader.readexactly(1_000_000) == bytes(1_000_000)
    writer.close()
    await writer.wait_closed()
    server.close()

    receiving, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    sending, _ = await loop.create_datagram_endpoint(Protocol, remote_addr=receiving.get_extra_info("sockname"))
    sending.close()
    receiving.close()

    source, sink = os.pipe()
    reading, _ = await loop.connect_read_pipe(Protocol, open(source, "rb"))
    writing, _ = await loop.connect_write_pipe(Protocol, open(sink, "wb"))
    writing.close()
    reading.close()

    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    transports.add(type(child._transport))
    assert await child.communicate(b"bytes") == (b"bytes", None)

    async with files.tempfile.NamedTemporaryFile("w+") as file:
        await file.write("content")
        await file.flush()
        assert await files.read_text(file.name) == "content"
    assert not [what for what in open_descriptors().values() if "io_uring" in what]
    return getattr(loop, "backend", "asyncio's")

run = uringloop.run
print(run(main()), *sorted({kind.__module__.rpartition(".")[0] for kind in transports}))
"""


def test_no_call_of_io_uring_succeeds_and_no_transport_is_asyncio_s() -> None:
    """A filter answers all three calls as Docker's does: whatever works here, works without them."""
    answer = script(PREPARED.format(refusal=ALL) + EVERYTHING)
    assert answer == "epoll uringloop.children uringloop.transports\n"


def test_transports_of_asyncio_are_seen() -> None:
    """The test above shows something."""
    source = EVERYTHING.replace("run = uringloop.run", "run = asyncio.run")
    assert script(PREPARED.format(refusal=ALL) + source) == "asyncio's asyncio\n"


@pytest.mark.parametrize("variables", [{"URINGLOOP_DISABLE": "1"}, {"URINGLOOP_BACKEND": "epoll"}])
def test_no_call_of_io_uring_is_made(variables: dict[str, str]) -> None:
    """Any would kill the process."""
    answer = script(PREPARED.format(refusal="seccomp.kill()") + EVERYTHING, **variables)
    assert answer == "epoll uringloop.children uringloop.transports\n"


def test_a_program_s_own_choice_makes_no_call_either() -> None:
    answer = script(
        PREPARED.format(refusal="seccomp.kill()") + f"{ECHO}\nprint(uringloop.run(main(), backend='epoll'))"
    )
    assert answer == "('epoll', b'hello')\n"


@pytest.mark.parametrize("value", ["uring", "EPOLL", "1"])
def test_an_unknown_backend_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="backend must be one of"):
        uringloop.EventLoop(backend=value)  # type: ignore[arg-type]
    answer = script(
        """
import asyncio, uringloop
from uringloop import files
async def read():
    await files.read_text("/dev/null")
for make in (uringloop.EventLoop, lambda: asyncio.run(read())):
    try:
        make()
    except ValueError as error:
        print(error)
uringloop.EventLoop(backend="epoll").close()
""",
        URINGLOOP_BACKEND=value,
    )
    assert answer == f"the variable URINGLOOP_BACKEND must be one of ('auto', 'io_uring', 'epoll'), not {value!r}\n" * 2


@needs("io_uring")
def test_an_argument_goes_before_the_variable() -> None:
    answer = script(
        """
import uringloop
for backend in ("io_uring", "epoll", "auto"):
    loop = uringloop.EventLoop(backend=backend)
    print(loop.backend)
    loop.close()
""",
        URINGLOOP_BACKEND="epoll",
    )
    assert answer.split() == ["io_uring", "epoll", "epoll"]


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_doctor_explains(refused: Callable[..., str], way: str, arguments: list[str]) -> None:
    answer = refused(f"from uringloop.__main__ import main; print('exit code', main({arguments}))")
    _, name, cause, remedy = WAYS[way]
    report, _, code = answer.rpartition("exit code ")
    assert code == "1\n"
    if arguments:
        facts = json.loads(report)
        assert facts["usable"] is False
        assert facts["backend"] == "epoll"
        assert {"NOP", "READ", "WRITE", "OPENAT"} <= set(facts["operations"])
        assert facts["error"] == (name if name.startswith("E") else None)
        assert cause in facts["cause"]
        assert remedy in facts["remedy"]
    else:
        text = " ".join(report.split())
        assert "io_uring cannot be used here. A loop gets the backend epoll: io_uring cannot be used." in text
        assert "docs/containers.md" in text
        assert cause in text
        assert remedy in text


PARTLY = {
    "io_uring_enter": "seccomp.refuse(errno.EPERM, seccomp.ENTER)",
    "io_uring_register": "seccomp.refuse(errno.EPERM, seccomp.REGISTER)",
    "both": "seccomp.refuse(errno.EPERM, seccomp.ENTER, seccomp.REGISTER)",
}


@pytest.mark.parametrize("refusal", PARTLY)
def test_doctor_where_only_a_part_is_refused(refusal: str) -> None:
    source = PREPARED.format(refusal=PARTLY[refusal])
    answer = script(source + "from uringloop.__main__ import main; print('exit code', main([]))")
    assert "exit code 1" in answer
    assert "seccomp filter" in answer


@pytest.mark.parametrize("refusal", PARTLY)
def test_loop_where_only_a_part_is_refused(refusal: str) -> None:
    answer = script(
        PREPARED.format(refusal=PARTLY[refusal])
        + """
assert not uringloop.is_available()
loop = uringloop.new_event_loop()
print(loop.backend)
loop.close()
try:
    uringloop.new_event_loop(backend="io_uring")
except uringloop.RingUnavailableError as error:
    print(error)
"""
    )
    assert answer.startswith("epoll\n")
    assert "seccomp filter" in answer


def test_doctor_where_asking_kills() -> None:
    answer = script(
        PREPARED.format(refusal="seccomp.kill()") + "from uringloop.__main__ import main; print('exit code', main([]))"
    )
    assert "exit code 1" in answer
    assert "A sandbox kills the process that asks for it" in answer
    assert "A loop gets no backend: asking kills the process" in answer
    assert "URINGLOOP_DISABLE=1" in answer


@needs("io_uring")
@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("epoll", "A loop gets the backend epoll: URINGLOOP_BACKEND=epoll asks for it."),
        ("io_uring", "A loop gets the backend io_uring: URINGLOOP_BACKEND=io_uring asks for it."),
        ("nonsense", "A loop gets no backend: the variable URINGLOOP_BACKEND must be one of"),
    ],
)
def test_doctor_with_the_variable(value: str, line: str) -> None:
    answer = script("from uringloop.__main__ import main; print('exit code', main([]))", URINGLOOP_BACKEND=value)
    assert line in answer
    assert "io_uring can be used here." in answer


def test_doctor_where_the_variable_asks_for_what_is_refused() -> None:
    answer = script(
        "from uringloop.__main__ import main; print('exit code', main([]))",
        URINGLOOP_BACKEND="io_uring",
        URINGLOOP_DISABLE="1",
    )
    assert "A loop gets no backend: URINGLOOP_BACKEND=io_uring asks for it, and it cannot be used." in answer


def test_doctor_where_eventfd_is_refused() -> None:
    source = PREPARED.format(refusal="seccomp.refuse(errno.EPERM, seccomp.EVENTFD)")
    answer = script(source + "from uringloop.__main__ import main; print('exit code', main([]))")
    assert "io_uring cannot be used here." in answer
    assert "A loop gets the backend epoll" in answer


def test_asking_does_kill() -> None:
    """The tests above that survive `seccomp.kill` show something."""
    source = PREPARED.format(refusal="seccomp.kill()") + "uringloop.is_available()"
    assert python(["-c", source]).returncode < 0


@pytest.mark.parametrize("value", ["", "0"])
@needs("io_uring")
def test_disable_switched_off(value: str) -> None:
    answer = script("import uringloop; print(uringloop.is_available())", URINGLOOP_DISABLE=value)
    assert answer == "True\n"


def test_disable_set_later_counts() -> None:
    answer = script("""
import os, uringloop
loop = uringloop.EventLoop()
os.environ["URINGLOOP_DISABLE"] = "1"
print(uringloop.is_available())
loop.close()
""")
    assert answer == "False\n"
