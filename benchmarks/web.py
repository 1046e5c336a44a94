"""How do event loops compare below web servers, under wrk, and below aiohttp's client?

    python -m benchmarks.web --servers uvicorn_plaintext --clients aiohttp --rounds 3

The files are 64 KiB large.  wrk is Debian's package of that name; it measures whole seconds.  One answer is compared
before, and all that wrk gets must have status 200 and together the right length.  The client has a server with the
load's CPU to itself (`clients.py`).
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence

from benchmarks import clients, results, runner
from benchmarks.echo import connections_text
from benchmarks.results import Case, Figures
from benchmarks.runner import Disqualified, Server, Servers
from benchmarks.servers.web import BODIES

TIMEOUT_S = 10.0
US = {"us": 1.0, "ms": 1e3, "s": 1e6}
BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
#: wrk gives a total of three or four digits.
ROUNDING = 0.995
#: By mode of the server, a library without which it is left out.
NEEDED = {"starlette_file": "starlette", "granian": "granian"}
CLIENTS = ("aiohttp",)


def check(url: str, body: bytes) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            if answer.read() != body:
                raise Disqualified("content differs")
    except OSError as error:
        raise Disqualified(f"no answer: {error}") from error


def understood(output: str, body: bytes) -> dict[str, float]:
    """What wrk prints, as figures."""
    if complaint := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", output):
        raise Disqualified(complaint[0])
    total = re.search(r"(\d+) requests in .*, ([\d.]+)([KMG]?B) read", output)
    rate = re.search(r"Requests/sec: +([\d.]+)", output)
    latencies = {
        int(share): float(time) * US[unit] for share, time, unit in re.findall(r"(\d+)% +([\d.]+)(\w+)", output)
    }
    if not total or not rate or int(total[1]) == 0:
        raise Disqualified("no answer to wrk")
    messages = int(total[1])
    if float(total[2]) * BYTES[total[3]] < messages * len(body) * ROUNDING:
        raise Disqualified("answers are too short")
    return {"value": float(rate[1]), "messages": messages, "p50_us": latencies[50], "p99_us": latencies[99]}


def wrk(server: Server, connections: int, seconds: int, body: bytes) -> Figures:
    url = f"http://127.0.0.1:{server.address}/"
    check(url, body)
    _, cpu = runner.server_and_load_cpu()
    command = [
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(connections),
        "--duration",
        f"{seconds}s",
        "--latency",
        url,
    ]
    begin = runner.cpu_time(server.pid)
    with runner.start(command, [cpu], subprocess.STDOUT) as process:
        output, _ = process.communicate(timeout=seconds + TIMEOUT_S)
    figures = understood(output, body)
    return {**figures, **runner.cpu_us(begin, runner.cpu_time(server.pid), figures.pop("messages"))}


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for mode in options.servers:
        with Servers(mode) as servers:
            for connections in options.connections:

                def measure(
                    contender: str, mode: str = mode, servers: Servers = servers, of: int = connections
                ) -> Figures:
                    try:
                        return wrk(servers[contender], of, max(1, round(options.seconds)), BODIES[mode])
                    except Disqualified:
                        servers.stop(contender)
                        raise

                name = f"{mode.replace('_', ' ')}, {connections_text(connections)}"
                yield Case(name, measure, options.loops, "requests/s")
    if options.clients:
        questions = [f"{library}_get" for library in options.clients]
        yield from clients.cases("http", questions, options.loops, options.seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    available = [mode for mode in BODIES if mode not in NEEDED or importlib.util.find_spec(NEEDED[mode])]
    parser = results.parser(__doc__, seconds=1.0)
    parser.add_argument("--servers", nargs="*", choices=BODIES, default=available)
    parser.add_argument("--clients", nargs="*", choices=CLIENTS, default=CLIENTS)
    parser.add_argument("--connections", nargs="+", type=int, default=[64])
    options = parser.parse_args(arguments)
    if options.servers and not shutil.which("wrk"):
        parser.error("wrk is not installed")
    results.report("web", cases(options), options)


if __name__ == "__main__":
    main()
