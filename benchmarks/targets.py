"""The speed that uringloop is to have on each backend: by case, ratios to uvloop's rate and the best other loop's."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks import contenders, results

BEST = "best"


class Target(NamedTuple):
    title: str
    case: str
    #: By the contender that is compared with, or BEST; None is reported without one.
    wanted: Mapping[str, float | None]
    figure: str = "value"
    ours: str = contenders.OURS


def _loops(title: str, case: str, reference: float, best: float | None, figure: str = "value") -> Target:
    return Target(title, case, {contenders.REFERENCE: reference, BEST: best}, figure)


def _streams(title: str, case: str, reference: float) -> Target:
    wanted = {contenders.REFERENCE: reference, BEST: None}
    return Target(title, case, wanted, ours=contenders.STREAMING[contenders.OURS])


def _on_epoll(title: str, case: str, reference: float) -> Target:
    wanted = {contenders.REFERENCE: reference, BEST: None}
    return Target(f"{title}, on epoll", case, wanted, ours=contenders.EPOLL)


PROTOCOL_64 = "tcp protocol, 64 connections, 1 KiB, depth 1"
PROTOCOL_1000 = "tcp protocol, 1,000 connections, 1 KiB, depth 1"
PING_PONG = "tcp protocol, 1 connection, 1 KiB, depth 1"
STREAMS_64 = "tcp streams, 64 connections, 1 KiB, depth 1"
LINES = "streams readline in pipelines of 100"
EXACTLY = "streams readexactly in pipelines of 100"
SOCK_64 = "tcp sock, 64 connections, 1 KiB, depth 1"
UNIX_64 = "unix protocol, 64 connections, 1 KiB, depth 1"
UDP_32 = "udp, 32 connections, 1 KiB"
UDP_ONE_WAY = "udp one way, 1200 B, each loop to itself"
ACCEPT = "accept, message, close: 16 connections at a time, 1 KiB"
TLS_64 = "tls, 64 connections, 1 KiB"
TLS_LARGE = "tls, 64 connections, 16 KiB"
HANDSHAKES = "tls handshakes: 16 connections at a time"
LOOKUP = "getaddrinfo of localhost"
UVICORN = "uvicorn plaintext, 64 connections"
TARGETS = (
    _loops("TCP protocol echo, 64 connections", PROTOCOL_64, 1.40, 1.15),
    _loops("the same, 1,000 connections", PROTOCOL_1000, 1.35, 1.10),
    _loops("TCP streams echo, 64", STREAMS_64, 1.50, 1.10),
    _streams("the same by `uringloop.streams`", STREAMS_64, 2.00),
    _streams("`readline` by `uringloop.streams`, pipelines of 100", LINES, 3.00),
    _streams("`readexactly` by `uringloop.streams`, pipelines of 100", EXACTLY, 3.00),
    _loops("`sock_*` echo, 64", SOCK_64, 2.60, 1.05),
    _loops("one connection, ping-pong: rate", PING_PONG, 1.10, 1.05),
    _loops("the same: p50", PING_PONG, 1.10, 1.05, "p50_us"),
    _loops("the same: p99", PING_PONG, 1.10, 1.05, "p99_us"),
    _loops("unix echo, 64", UNIX_64, 1.30, 1.15),
    _loops("UDP echo, 32", UDP_32, 1.20, 1.20),
    _loops("UDP one way, 1,200 bytes, to itself", UDP_ONE_WAY, 2.00, None),
    _loops(
        "protocol echo, 64, beside a busy Python thread",
        "tcp protocol beside a busy thread, 64 connections, 1 KiB",
        1.50,
        1.00,
    ),
    _loops("accept, one message, close", ACCEPT, 1.20, 1.05),
    _loops("`call_soon`", "call soon", 1.00, None),
    _loops("`call_soon` with arguments", "call soon with arguments", 1.00, None),
    _loops("`call_soon_threadsafe`", "call soon threadsafe", 1.00, None),
    _loops("`to_thread`", "to thread, 1 CPU", 1.00, 1.00),
    _loops("`run_in_executor` of 200 at once", "run in executor 200 at once, 1 CPU", 1.00, 1.00),
    _loops("`call_soon_threadsafe` from a thread", "call soon threadsafe from a thread, 1 CPU", 1.00, 1.00),
    _loops("the same, one by one", "call soon threadsafe from a thread one by one, 1 CPU", 1.00, 1.00),
    _loops("`run_coroutine_threadsafe`", "run coroutine threadsafe, 1 CPU", 1.00, 1.00),
    _loops("timers set and cancelled", "timers set and cancelled", 1.00, None),
    _loops("timers fired", "timers fired", 1.00, None),
    _loops("`sleep(0)`", "sleep 0", 1.00, None),
    _loops("`gather`", "gather", 1.00, None),
    _loops("`asyncio.Queue`, room for one", "queue", 1.00, 1.00),
    _loops("a loop made and closed", "loop made and closed", 1.00, None),
    _loops("`getaddrinfo` of localhost", LOOKUP, 1.20, None),
    _loops("uvicorn plaintext under wrk", UVICORN, 1.05, 1.00),
    Target("granian's ASGI plaintext under wrk", "granian, 64 connections", {BEST: 1.10}),
    Target("HTTP requests by aiohttp", "aiohttp get", {BEST: 1.10}),
    _loops("TLS echo, 64", TLS_64, 1.10, 1.20),
    Target("the same, 16 KiB", TLS_LARGE, {BEST: 1.10}),
    Target("TLS handshakes", HANDSHAKES, {BEST: 1.10}),
    Target("TLS in, 256 KiB writes", "tls bulk in, writes of 256 KiB", {BEST: 1.10}),
    Target("TLS out, 256 KiB writes", "tls bulk out, writes of 256 KiB", {BEST: 1.10}),
    Target("HTTPS requests by aiohttp", "aiohttp https get", {BEST: 1.10}),
    Target("HTTPS requests by httpx", "httpx https get", {BEST: 1.10}),
    _loops("bulk in, 256 KiB writes", "bulk in, writes of 256 KiB", 1.00, None),
    _loops("bulk out, 256 KiB writes", "bulk out, writes of 256 KiB", 1.00, None),
    Target("TCP protocol echo, 64, against a bare C epoll server", PROTOCOL_64, {"C epoll": 1.10}),
    Target("TCP protocol echo, 64, against a bare C io_uring server", PROTOCOL_64, {"C io_uring": 0.95}),
    _on_epoll("TCP protocol echo, 64 connections", PROTOCOL_64, 1.15),
    _on_epoll("the same, 1,000 connections", PROTOCOL_1000, 1.10),
    _on_epoll("TCP streams echo, 64", STREAMS_64, 1.25),
    _on_epoll("`sock_*` echo, 64", SOCK_64, 2.00),
    _on_epoll("one connection, ping-pong: rate", PING_PONG, 1.00),
    _on_epoll("unix echo, 64", UNIX_64, 1.10),
    _on_epoll("UDP echo, 32", UDP_32, 1.10),
    _on_epoll("UDP one way, 1,200 bytes, to itself", UDP_ONE_WAY, 2.00),
    _on_epoll("accept, one message, close", ACCEPT, 1.10),
    _on_epoll("`getaddrinfo` of localhost", LOOKUP, 1.20),
    _on_epoll("uvicorn plaintext under wrk", UVICORN, 1.30),
    _on_epoll("TLS echo, 64", TLS_64, 1.25),
    Target(
        "TCP protocol echo, 64, on epoll, against a bare C epoll server",
        PROTOCOL_64,
        {"C epoll": 0.85},
        ours=contenders.EPOLL,
    ),
)


class Reached(NamedTuple):
    name: str
    wanted: float | None
    ratio: results.Spread | None

    def __str__(self) -> str:
        if self.ratio is None:
            return "not measured"
        text = f"{self.ratio.median:.2f} ({self.ratio.low:.2f} to {self.ratio.high:.2f})"
        if self.wanted is None:
            return text
        return f"{text} {'>=' if round(self.ratio.median, 2) >= self.wanted else '<'} {self.wanted:.2f}"


def reached(target: Target, found: Mapping[str, Mapping[str, Any]]) -> list[Reached]:
    """By the results of all cases by name."""
    result = found.get(target.case)
    compared = []
    for name, wanted in target.wanted.items():
        other = (result["best"] if result else None) if name == BEST else name
        ratio = results.recorded_ratio(result, target.ours, other, target.figure) if result and other else None
        compared.append(Reached(other or name, wanted, ratio))
    return compared


def rows(found: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """The table: medians of ratios, lowest and highest of a round, and what was wanted."""
    yield ["case", "against uvloop", "against the best other loop"]
    for target in TARGETS:
        first, *rest = reached(target, found)
        yield [target.title, str(first), *(f"{each} ({each.name})" for each in rest)]


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    heading, *body = rows(found)
    padded = [[*row, *[""] * (len(heading) - len(row))] for row in body]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heading, ["---"] * len(heading), *padded]) + "\n"
