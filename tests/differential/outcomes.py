"""What became of a call, in a form that can be compared between two loops.

A call is a row of a table: a Python expression over the names of a `Stage`, so that a table reads as a list of what was
tried, and the row is the test's name.
"""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import math
import re
import signal
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.variants import LoopFactory

LOCALHOST = "127.0.0.1"

#: What no two runs have in common, or names the class of the loop.
_PARTICULAR = (
    (re.compile(r"0x[0-9a-f]+"), "ADDRESS"),
    (re.compile(r"\bfd=\d+"), "fd=N"),
    (re.compile(r"(?i)(file ?descriptor|fileno) \d+"), r"\1 N"),
    (re.compile(r"(127\.0\.0\.1', )\d+"), r"\1PORT"),
    (re.compile(r"/tmp/\w+"), "FOLDER"),
    (re.compile(r"\b\w+\.(?=\w+\(\) (takes|missing|got) )"), ""),
    # Ours is one class for what asyncio calls by these names.
    (re.compile(r"_?(StreamTransport|SelectorSocketTransport)"), "STREAM"),
    (re.compile(r"_?(DatagramTransport|SelectorDatagramTransport)"), "DATAGRAM"),
    (re.compile(r"\w+\._(call_connection_lost|lose_connection)\(\w*\)"), "LOSE"),
    (re.compile(r"\b_?\w*EventLoop\b"), "LOOP"),
    (re.compile(r" backend=\w+(?=>)"), ""),
)


def general(text: object) -> str:
    """A message without what is particular to one run or one loop."""
    text = str(text)
    for pattern, replacement in _PARTICULAR:
        text = pattern.sub(replacement, text)
    return text


def described(error: BaseException | None) -> Any:
    """An exception as a comparable value: its class, errno, filename and message."""
    if error is None:
        return None
    numbers = (error.errno, error.filename) if isinstance(error, OSError) else ()
    return (type(error).__name__, *numbers, general(error))


def value(result: Any) -> Any:
    """A result as a comparable value: constants as they are, of all else the class."""
    if isinstance(result, (int, float, str, bytes, type(None))):
        return result
    return type(result).__name__.replace("EventLoop", "")


class Heard(logging.Handler):
    """What is heard beside results: the loop's exception handler and asyncio's logger."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def context(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.told.append((general(context["message"]), described(context.get("exception")), sorted(context)))

    def emit(self, record: logging.LogRecord) -> None:
        # The first line: below it are tracebacks, with the names of files.
        self.told.append((record.levelname, general(record.getMessage().partition("\n")[0])))


@contextlib.contextmanager
def hearing(loop: asyncio.AbstractEventLoop) -> Iterator[list[Any]]:
    """Collect what goes to the exception handler and to the log, instead of failing the test."""
    heard = Heard()
    logger = logging.getLogger("asyncio")
    loop.set_exception_handler(heard.context)
    logger.addHandler(heard)
    try:
        yield heard.told
    finally:
        logger.removeHandler(heard)


async def coroutine() -> None:
    """For where a function belongs."""


def fail() -> Any:
    """A factory that raises."""
    raise ZeroDivisionError("the factory")


class Unhelpful:
    """A protocol that is none."""


def callback(*_: Any) -> None:
    """Does nothing."""


@functools.cache
def tls_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[dict[str, Any]]:
    """The names that a row may use: sockets of all kinds, addresses, protocols."""
    with contextlib.ExitStack() as closing:

        def made(*kind: Any, blocking: bool = False) -> socket.socket:
            sock = closing.enter_context(socket.socket(*kind))
            sock.setblocking(blocking)
            return sock

        left, right = (closing.enter_context(end) for end in socket.socketpair())
        for end in (left, right):
            end.setblocking(False)
        right.send(b"bytes")
        silent, stuffed = (closing.enter_context(end) for end in socket.socketpair())
        for end in (silent, stuffed):
            end.setblocking(False)
        closed = made()
        closed.close()
        listener = made()
        listener.bind((LOCALHOST, 0))
        listener.listen()
        refusing = made()
        refusing.bind((LOCALHOST, 0))
        datagram = made(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.bind((LOCALHOST, 0))
        full = made(socket.AF_INET, socket.SOCK_DGRAM)
        full.bind((LOCALHOST, 0))
        full.sendto(b"bytes", full.getsockname())
        yield {
            "asyncio": asyncio,
            "socket": socket,
            "signal": signal,
            "Path": Path,
            "coroutine": coroutine,
            "callback": callback,
            "fail": fail,
            "Protocol": asyncio.Protocol,
            "Datagrams": asyncio.DatagramProtocol,
            "Unhelpful": Unhelpful,
            "context": tls_context(),
            "connected": left,
            "silent": silent,
            "stuffed": stuffed,
            "blocking": made(blocking=True),
            "closed": closed,
            "unconnected": made(),
            "listener": listener,
            "datagram": datagram,
            "full": full,
            "unix": made(socket.AF_UNIX),
            "unix_datagram": made(socket.AF_UNIX, socket.SOCK_DGRAM),
            "used": listener.getsockname(),
            "refused": refusing.getsockname(),
            "folder": str(folder),
            "missing": str(folder / "missing"),
            "strided": memoryview(bytearray(10))[::2],
        }


async def _ended(result: Any) -> None:
    """Give back whatever a call that went well has made."""
    if isinstance(result, tuple) and result and isinstance(result[0], asyncio.BaseTransport):
        result[0].abort()  # type: ignore[attr-defined]
    elif isinstance(result, asyncio.Server):
        result.close()
    elif isinstance(result, asyncio.Handle):
        result.cancel()
    elif isinstance(result, tuple) and result and isinstance(result[0], asyncio.StreamReader):
        result[1].transport.abort()
    for _ in range(5):
        await asyncio.sleep(0)


@dataclasses.dataclass
class Outcome:
    """What a call came to.

    Attributes:
        result: what was returned or raised.
        told: what the exception handler and the log were told.
        left_open: how many transports and sockets the garbage collector had to close.
    """

    result: tuple[Any, ...]
    told: list[Any]
    left_open: int = 0


def called_while_running(row: str, factory: LoopFactory, folder: Path, *, debug: bool = False) -> Outcome:
    """Run a row's expression in a coroutine on a fresh loop, and await what it gives."""
    return _counting_leaks(_call_while_running, row, factory, folder, debug)


def called_when_closed(row: str, factory: LoopFactory, folder: Path) -> Outcome:
    """The same on a loop that is closed already: of a coroutine, as much as runs without waiting."""
    return _counting_leaks(_call_when_closed, row, factory, folder)


def _counting_leaks(call: Callable[..., Outcome], *args: Any) -> Outcome:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        outcome = call(*args)
        gc.collect()
    outcome.left_open = sum(warning.category is ResourceWarning for warning in warned)
    return outcome


def _call_while_running(row: str, factory: LoopFactory, folder: Path, debug: bool) -> Outcome:
    async def run() -> None:
        try:
            result = eval(row, names)
            if asyncio.iscoroutine(result) or asyncio.isfuture(result):
                result = await result
        except Exception as error:
            outcome.result = ("raised", *described(error))
        else:
            outcome.result = ("returned", value(result))
            await _ended(result)
        # What a failure left behind is told while the loop still runs.
        gc.collect()
        await asyncio.sleep(0)
        await loop.shutdown_default_executor()

    loop = factory()
    loop.set_debug(debug)
    loop.slow_callback_duration = math.inf  # type: ignore[attr-defined]  # of all of asyncio's loops
    with contextlib.closing(loop), stage(folder) as names, hearing(loop) as told:
        names["loop"] = loop
        outcome = Outcome((), told)
        loop.run_until_complete(run())
    return outcome


def _call_when_closed(row: str, factory: LoopFactory, folder: Path) -> Outcome:
    loop = factory()
    loop.close()
    with stage(folder) as names, hearing(loop) as told:
        names["loop"] = loop
        outcome = Outcome((), told)
        try:
            result = eval(row, names)
            if asyncio.iscoroutine(result):
                result = _run_without_waiting(result)
        except Exception as error:
            outcome.result = ("raised", *described(error))
        else:
            outcome.result = ("returned", value(result))
    return outcome


def _run_without_waiting(coroutine: Any) -> Any:
    """The result of a coroutine that gives way to others at most, and waits for no future."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration as end:
        return end.value
    coroutine.close()
    return "waits"
