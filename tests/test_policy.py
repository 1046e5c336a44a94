"""The ways to make uringloop asyncio's loop, where asyncio has policies, warns of them, or has none any more."""

import asyncio
import sys

import pytest

import uringloop
from tests.children import script
from tests.kernel import needs

#: The backend that a loop gets here without a choice.
CHOSEN = "io_uring" if uringloop.is_available() else "epoll"

has_policies = pytest.mark.skipif(
    not hasattr(asyncio, "set_event_loop_policy"), reason="Python 3.16 has no event loop policies"
)

#: Makes of this Python's asyncio one without policies, in what it offers.
WITHOUT_POLICIES = """
import asyncio
for name in [name for name in vars(asyncio) if "policy" in name.lower() or name == "__getattr__"]:
    delattr(asyncio, name)
asyncio.__all__ = tuple(name for name in asyncio.__all__ if "policy" not in name.lower())
"""

#: All that needs no policy; the interpreter makes an error of any warning.
EVERY_OTHER_WAY = """
import asyncio
import uringloop
from uringloop import *

async def main():
    return type(asyncio.get_running_loop()).__name__

print(uringloop.run(main()))
with asyncio.Runner(loop_factory=uringloop.new_event_loop) as runner:
    print(runner.run(main()))
loop = uringloop.new_event_loop()
print(loop.run_until_complete(main()))
loop.close()
"""


@pytest.mark.parametrize("preparation", ["", WITHOUT_POLICIES], ids=["as it is", "without policies"])
def test_what_needs_no_policy_works_and_warns_of_nothing(preparation: str) -> None:
    assert script(preparation + EVERY_OTHER_WAY) == "EventLoop\n" * 3


def test_without_policies_install_says_what_to_do_instead() -> None:
    answer = script(
        WITHOUT_POLICIES
        + """
import uringloop
try:
    uringloop.install()
except RuntimeError as error:
    print(error)
assert not hasattr(uringloop, "EventLoopPolicy")
try:
    uringloop.policy.EventLoopPolicy
except AttributeError as error:
    print(error)
"""
    )
    for line, start in zip(answer.splitlines(), ("cannot install", "there is no EventLoopPolicy"), strict=True):
        assert line.startswith(start)
        assert "uringloop.run()" in line
        assert "loop_factory" in line


@has_policies
def test_a_policy_makes_loops_of_ours() -> None:
    answer = script("""
import asyncio, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import uringloop

async def main():
    return type(asyncio.get_running_loop()).__name__

class Mine(uringloop.EventLoopPolicy):
    pass

assert uringloop.EventLoopPolicy is uringloop.EventLoopPolicy
asyncio.set_event_loop_policy(Mine())
print(asyncio.run(main()))
uringloop.install()
print(asyncio.run(main()))
asyncio.set_event_loop_policy(None)
print(asyncio.run(main()))
""")
    assert answer.split() == ["EventLoop", "EventLoop", "_UnixSelectorEventLoop"]


@has_policies
def test_a_policy_is_warned_of_where_asyncio_warns_of_its_own() -> None:
    answer = script("""
import warnings
import uringloop
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    uringloop.EventLoopPolicy
    uringloop.install()
print(*(one.category.__name__ for one in caught))
""")
    assert set(answer.split()) == ({"DeprecationWarning"} if sys.version_info >= (3, 14) else set())


#: Ways to ask for the fallback of before; each stands on one line.
DEPRECATED = {
    "new_event_loop": "loop = uringloop.new_event_loop(fallback={value})",
    "run": "loop = uringloop.run(running(), fallback={value})",
}
DEPRECATED_BY_VARIABLE = {
    "new_event_loop": "loop = uringloop.new_event_loop()",
    "run": "loop = uringloop.run(running())",
    "factory": "loop = asyncio.Runner(loop_factory=uringloop.new_event_loop).get_loop()",
    "policy": "asyncio.set_event_loop_policy(policy); loop = asyncio.new_event_loop()",
}

RECORDING = """
import asyncio, warnings
import uringloop

async def running():
    return asyncio.get_running_loop()

with warnings.catch_warnings(action="ignore"):
    policy = uringloop.EventLoopPolicy() if hasattr(asyncio, "set_event_loop_policy") else None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {statement}  # here
loop.close()
print(loop.backend)
for one in caught:
    if "fallback" in str(one.message).lower():
        print(one.category.__name__, one.lineno, one.message)
"""


def recorded(statement: str, **variables: str) -> list[str]:
    """Return the loop's backend, and the warnings; each must be of the statement's own line."""
    source = RECORDING.format(statement=statement)
    [line] = [number for number, text in enumerate(source.splitlines(), 1) if text.endswith("# here")]
    backend, *warned = script(source, **variables).splitlines()
    assert all(text.startswith(f"DeprecationWarning {line} ") for text in warned), (line, warned)
    return [backend, *(text.split(maxsplit=2)[2] for text in warned)]


@pytest.mark.parametrize("way", DEPRECATED)
@pytest.mark.parametrize(
    ("value", "backend"), [("True", "auto"), pytest.param("False", "io_uring", marks=needs("io_uring"))]
)
def test_the_argument_fallback_is_deprecated(way: str, value: str, backend: str) -> None:
    [made, warning] = recorded(DEPRECATED[way].format(value=value))
    assert made == CHOSEN
    assert warning.startswith("fallback= is deprecated")
    assert f'backend="{backend}"' in warning


def test_fallback_true_leads_to_epoll() -> None:
    [made, _] = recorded(DEPRECATED["run"].format(value="True"), URINGLOOP_DISABLE="1")
    assert made == "epoll"


def test_fallback_and_backend_are_one_too_many() -> None:
    with pytest.raises(TypeError, match="give a backend, and not the deprecated fallback too"):
        uringloop.new_event_loop(fallback=True, backend="epoll")


@pytest.mark.parametrize(
    "way", [name if name != "policy" else pytest.param(name, marks=has_policies) for name in DEPRECATED_BY_VARIABLE]
)
@pytest.mark.parametrize(("value", "backend"), [("1", "auto"), pytest.param("0", "io_uring", marks=needs("io_uring"))])
def test_the_variable_is_deprecated(way: str, value: str, backend: str) -> None:
    [made, warning] = recorded(DEPRECATED_BY_VARIABLE[way], URINGLOOP_FALLBACK=value)
    assert made == CHOSEN
    assert warning.startswith("URINGLOOP_FALLBACK is deprecated: give backend= to the loop")
    assert f"URINGLOOP_BACKEND={backend}" in warning


def test_the_new_variable_goes_before_the_old_one() -> None:
    [made, _] = recorded(DEPRECATED_BY_VARIABLE["run"], URINGLOOP_FALLBACK="0", URINGLOOP_BACKEND="epoll")
    assert made == "epoll"


def test_an_empty_variable_is_none() -> None:
    assert recorded(DEPRECATED_BY_VARIABLE["run"], URINGLOOP_FALLBACK="") == [CHOSEN]


def test_the_old_variable_asks_for_io_uring() -> None:
    answer = script(
        """
import uringloop, warnings
warnings.simplefilter("ignore")
try:
    uringloop.new_event_loop()
except uringloop.RingUnavailableError:
    print("refused")
loop = uringloop.new_event_loop(backend="auto")
print(loop.backend)
loop.close()
""",
        URINGLOOP_FALLBACK="0",
        URINGLOOP_DISABLE="1",
    )
    assert answer == "refused\nepoll\n"


def test_an_unknown_name_is_refused_as_by_any_module() -> None:
    for module in (uringloop, uringloop.policy):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nothing'"):
            module.nothing  # noqa: B018


#: Calls install() on behalf of servers, and says what each is told.
SERVED = """
import types, warnings
import uringloop

def told(server, loop, workers):
    namespace = types.ModuleType(server)
    exec("def load(self, code, names): exec(code, names)", vars(namespace))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = types.SimpleNamespace(loop=loop)
        namespace.load(config, "import uringloop; uringloop.install()", {"workers": workers})
    return [str(each.message) for each in caught if each.category is RuntimeWarning]

for case in CASES:
    print(*told(*case))
"""


@has_policies
def test_install_warns_under_a_server_that_does_not_mind_it() -> None:
    cases = {
        ("uvicorn.config", "auto", 1): "uvicorn --loop uringloop:new_event_loop",
        ("uvicorn.config", "uringloop", 1): "uvicorn --loop uringloop:new_event_loop",
        ("uvicorn.config", "uringloop:new_event_loop", 1): "",
        ("uvicorn.config", "none", 1): "",
        ("hypercorn.config", "", 1): "in the application's module",
        ("hypercorn.config", "", 0): "",
        ("gunicorn.app.base", "", 1): "",
    }
    answer = script(SERVED.replace("CASES", repr(list(cases))))
    for line, told in zip(answer.splitlines(), cases.values(), strict=True):
        assert told in line if told else line == ""


@has_policies
def test_install_warns_where_another_loop_runs() -> None:
    answer = script(
        """
        import asyncio, warnings
        import uringloop

        async def main():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                uringloop.install()
            return [str(each.message) for each in caught if each.category is RuntimeWarning]

        print(asyncio.run(main()))
        print(asyncio.run(main()))
        """
    )
    first, second = answer.splitlines()
    assert "too late for the _UnixSelectorEventLoop that runs already" in first
    assert second == "[]"
