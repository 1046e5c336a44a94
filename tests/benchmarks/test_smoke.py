"""Each benchmark still runs, with figures of asyncio and of uringloop on both backends; none is disqualified."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.compat.libraries import databases
from tests.compat.libraries.needs import library, missing, program
from tests.kernel import needs

#: The generator of load is a program on io_uring.
pytestmark = needs("io_uring")

ROOT = Path(__file__).resolve().parents[2]
LOOPS = ("asyncio", "uringloop", "uringloop epoll")
C_SERVERS = ("C epoll", "C io_uring")
STREAMS = ("uringloop streams", "uringloop epoll streams")


def run(benchmark: str, folder: Path, *options: str, seconds: str = "0.02") -> dict[str, Any]:
    record = folder / "record.json"
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--rounds", "1", "--seconds", seconds]
    finished = subprocess.run(
        [*command, "--loops", *LOOPS, "--json", str(record), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(record.read_text())
    return result


def check(record: dict[str, Any], cases: int, *limits: str) -> None:
    assert len(record["results"]) == cases
    for result in record["results"]:
        assert list(result["contenders"]) == [*LOOPS, *limits]
        for row in result["contenders"].values():
            assert row.get("disqualified", "") == ""
            assert row["value"] > 0


def test_echo(tmp_path: Path) -> None:
    options = ["--modes", "protocol", "--transports", "unix", "--connections", "3", "--sizes", "64", "--depths", "2"]
    record = run("echo", tmp_path, *options)
    check(record, 1, *C_SERVERS)
    assert record["machine"]["kernel"]
    assert record["versions"]["python"]
    assert record["rounds"] == 1


def test_sendfile(tmp_path: Path) -> None:
    check(run("sendfile", tmp_path, "--sizes", "16384"), 1, "C sendfile")


def test_another_checkout_takes_turns_with_this_one(tmp_path: Path) -> None:
    options = ["--modes", "protocol", "--transports", "unix", "--connections", "2", "--no-limits", "--other", str(ROOT)]
    check(run("echo", tmp_path, *options), 1, "other", "other epoll")


@pytest.mark.parametrize("mode", ["buffered", "streams", "sock"])
def test_echo_in_each_mode(mode: str, tmp_path: Path) -> None:
    # More outstanding than a socket takes, so that the load generator sends one after the other.
    options = ["--modes", mode, "--transports", "tcp", "--connections", "2", "--sizes", "262144", "--depths", "8"]
    check(run("echo", tmp_path, *options, seconds="0.2"), 1, *(STREAMS if mode == "streams" else ()))


@pytest.mark.parametrize(
    ("benchmark", "options", "cases"),
    [
        ("udp", ["--only", "echo", "--connections", "2"], 1),
        ("accept", ["--connections", "2"], 2),
        ("bulk", [], 2),
        ("flood", ["--connections", "20"], 1),
        ("tail", ["--connections", "2"], 1),
        ("memory", ["--modes", "protocol", "--connections", "200"], 1),
        ("spawn", ["--only", "spawn"], 1),
        ("names", [], 3),
        ("messages", ["--only", "netlink_by_sock", "netlink_by_endpoint"], 2),
        ("readers", ["--seconds", "0.01"], 7),
    ],
)
def test_benchmark(benchmark: str, options: list[str], cases: int, tmp_path: Path) -> None:
    check(run(benchmark, tmp_path, *options, seconds="0.3"), cases)


def test_streams(tmp_path: Path) -> None:
    check(run("streams", tmp_path, seconds="0.01"), 4, *STREAMS)


def test_cores(tmp_path: Path) -> None:
    record = run("cores", tmp_path, "--loops", "uringloop", "--only", "protocol", "--count", "2", seconds="0.05")
    (result,) = record["results"]
    assert {"uringloop processes", "C processes"} <= result["contenders"].keys()
    for row in result["contenders"].values():
        assert row.get("disqualified", "") == ""
        assert row["value"] > 0


def test_udp_one_way(tmp_path: Path) -> None:
    record = run("udp", tmp_path, "--only", "one-way")
    check(record, 3)
    assert all(row["lost_percent"] < 100 for result in record["results"] for row in result["contenders"].values())


def test_scheduling_and_threads(tmp_path: Path) -> None:
    check(run("scheduling", tmp_path, seconds="0.002"), 12)
    check(run("threads", tmp_path, seconds="0.002"), 10)


def test_measuring(tmp_path: Path) -> None:
    record = run("measuring", tmp_path, "--modes", "protocol", "--connections", "2")
    [result] = record["results"]
    assert list(result["contenders"]) == [name for loop in LOOPS[1:] for name in (loop, f"{loop} measured")]
    assert all(row["value"] > 0 for row in result["contenders"].values())


def test_libraries(tmp_path: Path) -> None:
    library("psycopg")
    library("zmq")
    databases.programs()
    only = ["psycopg_select", "pyzmq_request_inproc"]
    check(run("libraries", tmp_path, "--only", *only), len(only))


def test_a_conversation_over_quic(tmp_path: Path) -> None:
    pytest.importorskip("aioquic")
    check(run("libraries", tmp_path, "--only", "aioquic_request"), 1)


def test_transports_of_another_library_take_turns(tmp_path: Path) -> None:
    pytest.importorskip("aiofastnet")
    transports = ["aiofastnet uvloop", "aiofastnet uringloop"]
    options = ["--modes", "protocol", "--transports", "tcp", "--connections", "2", "--no-limits"]
    check(run("echo", tmp_path, *options, "--loops", *LOOPS, *transports), 1, *transports)


def test_tls(tmp_path: Path) -> None:
    if not Path("/usr/include/openssl/ssl.h").exists():
        missing("OpenSSL's headers", "apt-get install libssl-dev")
    check(run("tls", tmp_path, "--only", "echo", "--connections", "2", "--sizes", "1024"), 1)
    options = ["--only", "handshake", "in", "out", "--at-once", "2", "--loops", "uringloop"]
    record = run("tls", tmp_path, *options, seconds="0.3")
    assert len(record["results"]) == 3
    assert all(result["contenders"]["uringloop"].get("value", 0) > 0 for result in record["results"])


def test_https(tmp_path: Path) -> None:
    library("aiohttp")
    library("httpx")
    record = run("https", tmp_path, "--loops", "uringloop", seconds="0.01")
    assert len(record["results"]) == 2
    assert all(result["contenders"]["uringloop"].get("value", 0) > 0 for result in record["results"])


def test_web(tmp_path: Path) -> None:
    program("wrk", "wrk")
    library("httptools")
    check(run("web", tmp_path, "--servers", "uvicorn_plaintext", "--connections", "2", "--clients"), 1)


def test_web_by_granian(tmp_path: Path) -> None:
    program("wrk", "wrk")
    pytest.importorskip("granian")
    check(run("web", tmp_path, "--servers", "granian", "--connections", "2", "--clients"), 1)


def test_web_by_a_client(tmp_path: Path) -> None:
    library("aiohttp")
    check(run("web", tmp_path, "--servers", "--clients", "aiohttp"), 1)


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    peers = {"blazio", "talyn", "rloop", "uvloop"}
    record = run("scheduling", tmp_path, "--only", "call_soon", seconds="0.001")
    assert record["missing"] == sorted(name for name in peers if not importlib.util.find_spec(name))
