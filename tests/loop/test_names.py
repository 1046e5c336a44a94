"""`loop.getaddrinfo` answers literals without a thread, and answers all as `socket.getaddrinfo` does."""

import asyncio
import concurrent.futures
import itertools
import logging
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.variants import USUAL

pytestmark = pytest.mark.asyncio(loop_factories=(*USUAL, "auto"))

#: No name to be looked up among them: the network of a test machine may take its time to say no.
HOSTS: list[Any] = [
    *(None, "127.0.0.1", b"127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", b"::1", "::", "::ffff:1.2.3.4"),
    *("fe80::1", "2001:db8::1", "FE80::0001", "1.2.3.4", "127.1", "0x7f.1", "2130706433", "010.0.0.1", "1.2.3.4 "),
    *("[::1]", "::1%0", "::1%lo", "fe80::1%lo", "1.2.3", "1.2.3.256", "1.2.3.4.5", ":::", "127.0.0.1\0", "\0"),
    *(bytearray(b"127.0.0.1"), 1, 1.5, (), ["127.0.0.1"], True),
]
PORTS: list[Any] = [
    *(None, 0, 1, 80, 65535, 65536, 70000, -1, 2**31, 2**63, "0", "80", b"80", "080", "65536", "99999999999999999999"),
    *(
        "",
        b"",
        " 80",
        "80 ",
        "+80",
        "-1",
        "http",
        b"https",
        "no-such-service",
        "\u0668\u0660",
        "\u00b2",
        1.5,
        True,
        [],
        "8\0",
    ),
]
FAMILIES: list[Any] = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 99, -1, "2", None]
TYPES: list[Any] = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, 77, "1"]
PROTOS: list[Any] = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 255, -1, None]
FLAGS: list[Any] = [
    *(0, socket.AI_PASSIVE, socket.AI_CANONNAME, socket.AI_NUMERICHOST, socket.AI_NUMERICSERV, socket.AI_ADDRCONFIG),
    *(socket.AI_V4MAPPED, socket.AI_V4MAPPED | socket.AI_ALL, socket.AI_PASSIVE | socket.AI_ADDRCONFIG),
    *(socket.AI_NUMERICHOST | socket.AI_CANONNAME, 1 << 14, 1 << 20, -1, None, "0"),
]


def outcome(ask: Callable[[], Any]) -> Any:
    """The answer, or the type and arguments of the exception."""
    try:
        return ask()
    except Exception as error:
        return type(error), error.args


async def awaited(ask: Any) -> Any:
    try:
        return await ask
    except Exception as error:
        return type(error), error.args


async def check(host: Any, port: Any, family: Any, kind: Any, proto: Any, flags: Any) -> None:
    loop = asyncio.get_running_loop()
    ours = await awaited(loop.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags))
    assert ours == outcome(lambda: socket.getaddrinfo(host, port, family, kind, proto, flags)), (
        f"getaddrinfo({host!r}, {port!r}, {family!r}, {kind!r}, {proto!r}, {flags!r})"
    )


def looks_up(host: Any, port: Any) -> bool:
    """Whether the answer would be asked of a name server: what is no address at all, but a possible name."""
    return isinstance(host, str) and host in {"1.2.3", "1.2.3.256", "1.2.3.4.5", "1.2.3.4 ", "[::1]", ":::"}


async def test_each_host_with_each_port_is_answered_as_by_socket() -> None:
    for host, port in itertools.product(HOSTS, PORTS):
        if not looks_up(host, port):
            await check(host, port, 0, 0, 0, 0)
            await check(host, port, 0, socket.SOCK_STREAM, 0, 0)


async def test_any_combination_is_answered_as_by_socket() -> None:
    choices = random.Random("getaddrinfo")
    for _ in range(4000):
        host, port = choices.choice(HOSTS), choices.choice(PORTS)
        if not looks_up(host, port):
            await check(host, port, *(choices.choice(values) for values in (FAMILIES, TYPES, PROTOS, FLAGS)))


async def test_whatever_is_no_literal_goes_to_the_executor() -> None:
    asked = []

    class Executor(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function: Any, /, *args: Any, **options: Any) -> Any:
            asked.append(args)
            return super().submit(list)

    loop = asyncio.get_running_loop()
    with Executor() as executor:
        loop.set_default_executor(executor)
        named = ("localhost", "localhost.", "1.2.3", "1.2.3.256", "", "::1%lo", "127.1", "\u0661.2.3.4")
        for host in named:
            assert await loop.getaddrinfo(host, 80) == []
        for port in ("http", "", b"", "\u00b2"):
            assert await loop.getaddrinfo("127.0.0.1", port) == []
        assert [args[:2] for args in asked] == [(host, 80) for host in named] + [
            ("127.0.0.1", port) for port in ("http", "", b"", "\u00b2")
        ]


@pytest.mark.asyncio(loop_factories=("ring", "selector"))
@pytest.mark.parametrize("host", [None, "127.0.0.1", b"::1", "::ffff:1.2.3.4"])
@pytest.mark.parametrize("port", [None, 80, "80", b"80"])
async def test_a_literal_needs_no_thread(host: Any, port: Any) -> None:
    class Refusing(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function: Any, /, *args: Any, **options: Any) -> Any:
            raise AssertionError("asked an executor")

    loop = asyncio.get_running_loop()
    with Refusing() as executor:
        loop.set_default_executor(executor)
        await check(host, port, 0, 0, 0, 0)


async def test_debug_mode_logs_the_lookup(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert "Get address info 127.0.0.1:80, type=<SocketKind.SOCK_STREAM: 1>" in caplog.text
