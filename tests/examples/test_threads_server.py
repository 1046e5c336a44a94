"""examples/threads_server.py: all threads serve, and stop in order."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.children import environment
from tests.examples.test_examples import EXAMPLES, run

_TIMEOUT_S = 30


@pytest.fixture
def server() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "threads_server.py"), "--port", "0", "--threads", "3"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


def port_of(server: "subprocess.Popen[str]") -> int:
    assert server.stdout is not None
    found = re.fullmatch(
        r"listening on 127\.0\.0\.1:(\d+) \(3 threads, with(out)? the GIL\)\n", server.stdout.readline()
    )
    assert found
    return int(found[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops(server: "subprocess.Popen[str]", number: signal.Signals) -> None:
    port = port_of(server)
    finished = run("echo_client.py", "--port", str(port), "--connections", "5", "--messages", "20")
    assert (finished.returncode, finished.stderr) == (0, "")
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as ending:
        ending.sendall(b"hello")
        assert ending.recv(100) == b"hello"
        server.send_signal(number)
        ending.sendall(b"last words")
        assert ending.recv(100) == b"last words"
    output, errors = server.communicate(timeout=_TIMEOUT_S)
    assert (server.returncode, errors) == (0, "")
    served = re.fullmatch(r"served (\d+) \+ (\d+) \+ (\d+) connections, \d+ chunks\n", output)
    assert served
    assert sum(map(int, served.groups())) == 6
