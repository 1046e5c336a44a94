"""io_uring refused by a seccomp filter or by URINGLOOP_DISABLE: a clear error, a fallback, a doctor that explains."""

import asyncio
import json
import os
from collections.abc import Callable

import pytest

from tests.children import python, script

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
    return type(asyncio.get_running_loop()).__name__, answer
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
    assert refused("print(uringloop.is_available(), uringloop.__version__)") == f"False {_version()}\n"


def _version() -> str:
    import uringloop

    return uringloop.__version__


@pytest.mark.parametrize(
    "maker",
    [
        "uringloop.EventLoop()",
        "uringloop.EventLoop(sleep='selector')",
        "uringloop.new_event_loop()",
        pytest.param(f"{_QUIETLY}uringloop.EventLoopPolicy().new_event_loop()", marks=needs_policies),
        "uringloop.ring.Ring()",
    ],
)
def test_error_says_why_and_what_to_do(refused: Callable[..., str], way: str, maker: str) -> None:
    answer = refused(f"""
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
    uringloop.run(coroutine)
except uringloop.RingUnavailableError:
    coroutine.close()
    print("refused")
""")
    assert answer == "refused\n"


FALLBACKS = {
    "argument": "loop = uringloop.new_event_loop(fallback=True)",
    "variable": "loop = uringloop.new_event_loop()",
    "policy": "uringloop.install(); loop = asyncio.new_event_loop()",
}


@pytest.mark.parametrize("kind", ["argument", "variable", pytest.param("policy", marks=needs_policies)])
def test_fallback_is_asyncios_own_loop_with_a_warning(refused: Callable[..., str], kind: str) -> None:
    variables = {} if kind == "argument" else {"URINGLOOP_FALLBACK": "1"}
    answer = refused(
        f"""
{ECHO}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {FALLBACKS[kind]}
[warning] = [one for one in caught if one.category is not DeprecationWarning]
print(warning.category.__name__, warning.message)
assert type(loop) is asyncio.SelectorEventLoop
print(loop.run_until_complete(main()))
loop.close()
""",
        **variables,
    )
    warning, echoed = answer.splitlines()
    assert warning.startswith("RuntimeWarning falling back to asyncio's own event loop: io_uring is not available")
    assert echoed == "('_UnixSelectorEventLoop', b'hello')"


def test_fallback_can_be_switched_off(refused: Callable[..., str]) -> None:
    answer = refused(
        """
try:
    uringloop.new_event_loop(fallback=False)
except uringloop.RingUnavailableError:
    print("refused")
""",
        URINGLOOP_FALLBACK="1",
    )
    assert answer == "refused\n"


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param("uringloop.install(); result = asyncio.run(main())", marks=needs_policies),
        "result = uringloop.run(main(), fallback=True)",
    ],
)
def test_programs_run_on_the_fallback(refused: Callable[..., str], runner: str) -> None:
    answer = refused(
        f"""
{ECHO}
warnings.simplefilter("ignore")
{runner}
print(result)
""",
        URINGLOOP_FALLBACK="1",
    )
    assert answer == "('_UnixSelectorEventLoop', b'hello')\n"


def test_files_work_in_threads(refused: Callable[..., str]) -> None:
    answer = refused("""
from uringloop import files
warnings.simplefilter("ignore")
async def main():
    async with files.tempfile.NamedTemporaryFile("w+") as file:
        await file.write("content")
        await file.flush()
        print(await files.read_text(file.name), (await files.os.stat(file.name)).st_size)
uringloop.run(main(), fallback=True)
""")
    assert answer == "content 7\n"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_doctor_explains(refused: Callable[..., str], way: str, arguments: list[str]) -> None:
    answer = refused(f"from uringloop.__main__ import main; print('exit code', main({arguments}))")
    _, name, cause, remedy = WAYS[way]
    report, _, code = answer.rpartition("exit code ")
    assert code == "1\n"
    if arguments:
        facts = json.loads(report)
        assert facts["usable"] is False
        assert facts["error"] == (name if name.startswith("E") else None)
        assert cause in facts["cause"]
        assert remedy in facts["remedy"]
    else:
        text = " ".join(report.split())
        assert "io_uring cannot be used here." in text
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
try:
    uringloop.new_event_loop()
except uringloop.RingUnavailableError as error:
    print(error)
"""
    )
    assert "seccomp filter" in answer


def test_doctor_where_asking_kills() -> None:
    answer = script(
        PREPARED.format(refusal="seccomp.kill()") + "from uringloop.__main__ import main; print('exit code', main([]))"
    )
    assert "exit code 1" in answer
    assert "A sandbox kills the process that asks for it" in answer
    assert "URINGLOOP_DISABLE=1" in answer


def test_asking_does_kill() -> None:
    """The tests above that survive `seccomp.kill` show something."""
    source = PREPARED.format(refusal="seccomp.kill()") + "uringloop.is_available()"
    assert python(["-c", source]).returncode < 0


@pytest.mark.parametrize("value", ["", "0"])
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
