"""The examples of the bare ring, each run as its reader would run it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from tests.children import environment
from tests.examples.test_examples import EXAMPLES, run
from tests.kernel import needs

pytestmark = needs("io_uring")


@pytest.mark.parametrize("size", [0, 1, 100_000, 1 << 20])
def test_cp(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    finished = run("ring_cp.py", tmp_path / "source", tmp_path / "target", "--depth", "3", "--block", "30000")
    assert (finished.stdout, finished.stderr) == (f"{size} bytes copied\n", "")
    assert (tmp_path / "target").read_bytes() == content


def test_cp_that_fails(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    finished = run("ring_cp.py", tmp_path / "source", "/dev/full")
    assert (finished.returncode, finished.stderr) == (1, "failed: [Errno 28] No space left on device\n")


def test_cat(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(100)]
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
    finished = run("ring_cat.py", *paths)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == "".join(path.name * 1000 for path in paths)
    finished = run("ring_cat.py", paths[1], tmp_path / "missing", tmp_path, paths[2])
    assert finished.returncode == 1
    assert finished.stdout == "1" * 1000 + "2" * 1000
    assert re.search("No such file.*\n.*Is a directory", finished.stderr)


def test_echo() -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / "ring_echo.py"), "--port", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = re.search(r":(\d+) \(bare ring\)", process.stdout.readline())
    assert found
    counts = ["--connections", "5", "--messages", "20", "--size", "3000"]
    assert run("echo_client.py", "--port", found[1], *counts).returncode == 0
    # More than all its buffers hold, before anything is read.
    content = os.urandom(8 << 20)
    with socket.create_connection(("127.0.0.1", int(found[1]))) as connection:
        writer = threading.Thread(target=connection.sendall, args=(content,))
        writer.start()
        received = bytearray()
        while len(received) < len(content):
            received += connection.recv(1 << 20)
        writer.join()
        assert received == content
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors, output) == (0, "", "served 5 connections\n")


def test_sqpoll() -> None:
    finished = run("ring_sqpoll.py")
    found = re.fullmatch(r"10000 bytes in 1000 submits, (\d+) system calls\n", finished.stdout)
    assert found
    assert int(found[1]) < 1000


def test_direct(tmp_path: Path) -> None:
    content = os.urandom((3 << 20) + 17)
    (tmp_path / "file").write_bytes(content)
    finished = run("ring_direct.py", tmp_path / "file", "--depth", "3")
    assert finished.stdout.startswith(f"{zlib.crc32(content):08x} ")
    finished = run("ring_direct.py", tmp_path / "missing")
    assert finished.returncode == 1
    assert "No such file" in finished.stderr


def test_messages() -> None:
    assert run("ring_messages.py").stdout == "1^2=1 2^2=4 3^2=9 4^2=16 5^2=25 6^2=36 7^2=49 8^2=64 9^2=81\n"
