"""Every example runs as its reader would run it, and stops cleanly on Ctrl-C."""

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import ROOT, environment, python
from tests.kernel import needs

EXAMPLES = ROOT / "examples"
LOOPS = [name for name in ("uringloop", "uvloop", "asyncio") if importlib.util.find_spec(name)]
MODES = ["protocol", "streams", "sock"]
_TIMEOUT_SECONDS = 30


def run(name: str, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return python([str(EXAMPLES / name), *map(str, arguments)], **variables)


def test_every_example_is_tested() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in source] == []


# Echo


class Server:
    """examples/echo_server.py as a process."""

    def __init__(self, mode: str, loop: str) -> None:
        command = [sys.executable, "-W", "error", str(EXAMPLES / "echo_server.py"), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--mode", mode, "--loop", loop],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(rf"listening on 127\.0\.0\.1:(\d+) \({mode}, {loop}\)\n", line)
        if found is None:
            _, errors = self.process.communicate(timeout=_TIMEOUT_SECONDS)
            pytest.fail(f"{line!r}\n{errors}")
        self.port = int(found[1])

    def stop(self, number: signal.Signals = signal.SIGINT) -> str:
        """Signal it to stop; what it said then."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=_TIMEOUT_SECONDS)
        assert (self.process.returncode, errors) == (0, "")
        return output


@contextlib.contextmanager
def serving(mode: str, loop: str) -> Iterator[Server]:
    server = Server(mode, loop)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", MODES)
def test_echo(mode: str, loop: str) -> None:
    with serving(mode, loop) as server:
        counts = ["--connections", "5", "--messages", "20", "--size", "3000"]
        finished = run("echo_client.py", "--port", str(server.port), "--loop", loop, *counts)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert re.fullmatch(r"100 messages in [\d.]+ s: \d+ messages/s\n", finished.stdout)
        assert re.fullmatch(r"served 5 connections, \d+ chunks\n", server.stop())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", MODES)
def test_echo_server_stops_while_connections_are_open(mode: str, loop: str, number: signal.Signals) -> None:
    with serving(mode, loop) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        connections = [stack.enter_context(socket.create_connection(address, _TIMEOUT_SECONDS)) for _ in range(3)]
        for connection in connections:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
        assert server.stop(number).startswith("served 3 connections")
        for connection in connections:
            # The end, or a reset; but it is over.
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100) == b""


def test_echo_client_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    finished = run("echo_client.py", "--port", str(port))
    assert finished.returncode == 1
    assert re.fullmatch(r"failed: .*Connect call failed.*\n", finished.stderr)


@pytest.mark.parametrize("change", ["bytes", "end"])
def test_echo_client_notices_what_is_wrong(change: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                if change == "bytes":
                    connection.sendall(bytes(byte ^ 1 for byte in connection.recv(10, socket.MSG_WAITALL)))
                    connection.recv(1)
                else:
                    connection.recv(10)

        thread = threading.Thread(target=serve)
        thread.start()
        finished = run("echo_client.py", "--port", str(listener.getsockname()[1]), "--messages", "2", "--size", "10")
        thread.join()
    assert finished.returncode == 1
    assert ("came back changed" if change == "bytes" else "0 bytes read") in finished.stderr


# Files


@pytest.mark.parametrize("size", [0, 1, 100_000, (3 << 20) + 17])
@pytest.mark.parametrize("compare", [False, True])
def test_copy(tmp_path: Path, size: int, compare: bool) -> None:
    content = os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "target").write_bytes(b"overwritten" * 1000)
    finished = run("copy_file.py", tmp_path / "source", tmp_path / "target", *(["--compare"] if compare else []))
    assert (finished.returncode, finished.stderr) == (0, "")
    rate, verdict = finished.stdout.splitlines()
    assert re.match(rf"{size} bytes in [\d.]+ s: \d+ MiB/s", rate)
    assert verdict == ("compared: the copy is the same" if compare else "not compared")
    assert (tmp_path / "target").read_bytes() == content


def test_copy_in_small_chunks(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content" * 100)
    assert run("copy_file.py", tmp_path / "source", tmp_path / "target", "--chunk", "13").returncode == 0
    assert (tmp_path / "target").read_bytes() == b"content" * 100


def test_copy_without_io_uring(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content" * 100_000)
    finished = run("copy_file.py", tmp_path / "source", tmp_path / "target", URINGLOOP_DISABLE="1")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert (tmp_path / "target").read_bytes() == b"content" * 100_000


def test_copy_that_fails(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    for arguments, why in (
        ((tmp_path / "missing", tmp_path / "target"), "No such file or directory"),
        ((source, tmp_path), "Is a directory"),
        ((source, source), "are the same file"),
        ((source, "/dev/full"), "No space left on device"),
    ):
        finished = run("copy_file.py", *arguments)
        assert finished.returncode == 1
        assert re.fullmatch(rf"failed: .*{why}.*\n", finished.stderr)
    assert source.read_bytes() == b"content"
    assert run("copy_file.py", source, tmp_path / "target", "--chunk", "0").returncode == 2


def test_copy_stopped_by_ctrl_c(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "source")
    writer_end = threading.Event()

    def write() -> None:
        with (tmp_path / "source").open("wb", 0) as fifo:
            fifo.write(b"beginning")
            started.set()
            writer_end.wait(_TIMEOUT_SECONDS)

    started = threading.Event()
    thread = threading.Thread(target=write)
    thread.start()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / "copy_file.py"), tmp_path / "source", tmp_path / "target"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.wait(_TIMEOUT_SECONDS)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=_TIMEOUT_SECONDS)
    writer_end.set()
    thread.join()
    assert process.returncode == 1
    assert errors == f"interrupted: {tmp_path / 'target'} may be incomplete\n"


# The ring


@needs("io_uring")
def test_hello_ring() -> None:
    finished = run("hello_ring.py")
    assert (finished.returncode, finished.stderr) == (0, "")
    words, told = finished.stdout.splitlines()
    assert words == "hello from the ring"
    assert re.fullmatch(r"1 SQE submitted; its CQE: user_data \d+, res 20 bytes written", told)


@needs("io_uring")
def test_hello_ring_that_cannot_write() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, str(EXAMPLES / "hello_ring.py")]
        finished = subprocess.run(
            command, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert finished.returncode == 1
    assert finished.stderr == "writev: No space left on device\n"


def test_a_ring_without_io_uring() -> None:
    finished = run("hello_ring.py", URINGLOOP_DISABLE="1")
    assert finished.returncode == 1
    assert "io_uring is not available: URINGLOOP_DISABLE is set." in finished.stderr
    assert "Traceback" not in finished.stderr
