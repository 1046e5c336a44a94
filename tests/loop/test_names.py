"""`loop.getaddrinfo` and `loop.getnameinfo` answer all as the socket module does, most without a thread of Python."""

import _socket
import asyncio
import concurrent.futures
import errno
import itertools
import logging
import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.variants import USUAL

pytestmark = pytest.mark.asyncio(loop_factories=(*USUAL, "auto"))

#: No other name is to be looked up: the network of a test machine may take its time to say no.
NAMES: list[Any] = [
    *("localhost", b"localhost", "LocalHost", "a.gated", "a.b.gated.", "b\u00fccher.gated", "\uff41.gated"),
    *("missing.gated", "again.gated", "a..gated", ".gated"),
    *("a" * 64 + ".gated", "a" * 63 + ".gated", "\u00fc" * 60 + ".gated"),
    *("\ud800.gated", "a.gated\0b", b"a.gated\0b", b"b\xfccher.gated", "a b.gated", "b\u3002gated", "xn--a.gated"),
]
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


@pytest.mark.parametrize("port", [None, 80, b"80", "http", "no-such-service"])
async def test_each_name_is_answered_as_by_socket(port: Any, name_service: None) -> None:
    for host, flags in itertools.product(NAMES, (0, socket.AI_CANONNAME, socket.AI_NUMERICHOST)):
        await check(host, port, 0, 0, 0, flags)


async def test_any_combination_is_answered_as_by_socket(name_service: None) -> None:
    choices = random.Random("getaddrinfo")
    for _ in range(4000):
        host, port = choices.choice([*HOSTS, *NAMES]), choices.choice(PORTS)
        family = choices.choice(FAMILIES)
        # The name service of the tests has answers for both families at once only.
        if not looks_up(host, port) and (family == 0 or host not in NAMES):
            await check(host, port, family, *(choices.choice(values) for values in (TYPES, PROTOS, FLAGS)))


class Name(str):
    __slots__ = ()


#: Each as socket.getnameinfo gets it; no host that a name server would be asked for.
ADDRESSES: list[Any] = [
    *(("127.0.0.1", 80), ("127.0.0.1", 0), ("127.0.0.1", 65535), ("127.0.0.1", 65536), ("127.0.0.1", -1)),
    *(("127.0.0.1", "80"), ("127.0.0.1", None), ("127.0.0.1", 80.0), ("127.0.0.1", True), ("127.0.0.1", 2**31)),
    *(("::1", 80), ("::1", 80, 0), ("::1", 80, 0, 0), ("::1", 80, 0xFFFFF, 0), ("::1", 80, 0x100000, 0)),
    *(("::1", 80, -1, 0), ("::1", 80, 0, 2**32), ("::1", 80, 0, 1), ("::1", 80, 0, 0, 0), ("::ffff:127.0.0.1", 80)),
    *(("127.0.0.1", 80, 0), ("127.0.0.1", 80, 0, 0), ("::1%lo", 80), ("127.1", 80), ("0x7f.1", 80), ("", 80)),
    *(("localhost", 80), ("127.0.0.1\0", 80), (b"127.0.0.1", 80), (Name("127.0.0.1"), 80), ("127.0.0.1",), ()),
    *(["127.0.0.1", 80], "127.0.0.1", None, 1, ("\ud800", 80), ("\u0661.2.3.4", 80)),
]
NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
NAME_FLAGS: list[Any] = [
    *(0, NUMERIC, socket.NI_NUMERICHOST, socket.NI_NUMERICSERV, socket.NI_NAMEREQD, socket.NI_DGRAM, socket.NI_NOFQDN),
    *(NUMERIC | socket.NI_NAMEREQD, 1 << 20, -1, 2**31, -(2**31), True, None, "0", 1.0),
]


async def test_each_address_has_the_names_that_socket_gives_it() -> None:
    loop = asyncio.get_running_loop()
    for address, flags in itertools.product(ADDRESSES, NAME_FLAGS):
        ours = await awaited(loop.getnameinfo(address, flags))
        assert ours == outcome(lambda: socket.getnameinfo(address, flags)), f"getnameinfo({address!r}, {flags!r})"  # noqa: B023
    ours = await loop.getnameinfo(("127.0.0.1", 80))
    assert ours == socket.getnameinfo(("127.0.0.1", 80), 0)


class Refusing(concurrent.futures.ThreadPoolExecutor):
    """An executor that a test does not expect to be asked."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Any:
        raise AssertionError("asked an executor")


class Recording(concurrent.futures.ThreadPoolExecutor):
    """An executor that answers each call by its arguments."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Any:
        return super().submit(lambda: (function, *args))


NOT_ASYNCIO = pytest.mark.asyncio(loop_factories=tuple(name for name in (*USUAL, "auto") if name != "asyncio"))


@NOT_ASYNCIO
async def test_names_need_no_executor(name_service: None) -> None:
    loop = asyncio.get_running_loop()
    with Refusing() as executor:
        loop.set_default_executor(executor)
        for host in (*NAMES[:7], "", "127.1", "::1%lo", "\u0661.2.3.4"):
            for port in (None, 80, -1, 2**40, "80", b"80", "http", "", "\u00b2"):
                await check(host, port, 0, socket.SOCK_STREAM, 0, 0)
        assert await loop.getnameinfo(("127.0.0.1", 80)) == socket.getnameinfo(("127.0.0.1", 80), 0)
        assert await loop.getnameinfo(("::1", 80, 0, 0), NUMERIC) == ("::1", "80")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_replaced_function_is_called_in_the_executor(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: Any) -> Any: ...

    def getnameinfo(*args: Any) -> Any: ...

    loop = asyncio.get_running_loop()
    with Recording() as executor:
        loop.set_default_executor(executor)
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", getaddrinfo)
            patch.setattr(socket, "getnameinfo", getnameinfo)
            found: Any = await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
            assert found == (getaddrinfo, host, 80, 0, socket.SOCK_STREAM, 0, 0)
            assert await loop.getnameinfo((host, 80), NUMERIC) == (getnameinfo, (host, 80), NUMERIC)
        with monkeypatch.context() as patch:
            patch.setattr(_socket, "getaddrinfo", getaddrinfo)
            assert await loop.getaddrinfo(host, 80) == (socket.getaddrinfo, host, 80, 0, 0, 0, 0)


@pytest.mark.parametrize("host", [bytearray(b"localhost"), Name("localhost"), 1, 1.5])
async def test_unusual_arguments_go_to_the_executor(host: Any) -> None:
    loop = asyncio.get_running_loop()
    with Recording() as executor:
        loop.set_default_executor(executor)
        assert await loop.getaddrinfo(host, 80) == (socket.getaddrinfo, host, 80, 0, 0, 0, 0)
        assert await loop.getnameinfo((host, 80)) == (socket.getnameinfo, (host, 80), 0)


async def test_a_literal_needs_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    literal = await loop.getaddrinfo("127.0.0.1", 80)
    monkeypatch.setattr("uringloop.names.resolution.Resolver", no_descriptor)
    assert await loop.getaddrinfo("127.0.0.1", 80) == literal
    assert await loop.getaddrinfo("localhost", 80) == socket.getaddrinfo("localhost", 80)
    assert await loop.getnameinfo(("127.0.0.1", 80)) == socket.getnameinfo(("127.0.0.1", 80), 0)


def no_descriptor(dispatcher: Any) -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.asyncio(loop_factories=("ring", "selector"))
@pytest.mark.parametrize("host", [None, "127.0.0.1", b"::1", "::ffff:1.2.3.4"])
@pytest.mark.parametrize("port", [None, 80, "80", b"80"])
async def test_a_literal_needs_no_thread(host: Any, port: Any) -> None:
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
