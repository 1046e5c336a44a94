"""A process that ends without closing its loop has sent what it wrote: execv, _exit, abort."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.variants import BACKENDS

_ROOT = Path(__file__).parents[2]
_CONNECTIONS = 40

#: The descriptors of connections, the loop's name, and how to end are the arguments.
_PROGRAM = """
import asyncio, os, resource, socket, sys
from tests.variants import FACTORIES

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
name, ending, *descriptors = sys.argv[1:]


def end():
    if ending == "execv":
        os.execv("/bin/true", ["true"])
    if ending == "abort":
        os.abort()
    os._exit(0)


async def main():
    loop = asyncio.get_running_loop()
    writers = []
    for descriptor in descriptors:
        _, writer = await asyncio.open_connection(sock=socket.socket(fileno=int(descriptor)))
        writers.append(writer)
    for word in (b"last ", b"words"):
        for writer in writers:
            loop.call_soon(writer.write, word)
        if word == b"words" and len(writers) == 1:
            loop.call_soon(end)
        # The first comes back in the tick of the writes.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    end()


asyncio.Runner(loop_factory=FACTORIES[name]).run(main())
"""


@pytest.mark.parametrize("name", ["asyncio", *BACKENDS])
@pytest.mark.parametrize("ending", ["execv", "_exit", "abort"])
@pytest.mark.parametrize("connections", [1, _CONNECTIONS])
def test_all_that_an_earlier_tick_wrote_has_left(name: str, ending: str, connections: int) -> None:
    """Of one connection also what the tick that ends the process wrote."""
    pairs = [socket.socketpair() for _ in range(connections)]
    ours = [pair[0] for pair in pairs]
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, name, ending, *(str(sock.fileno()) for sock in ours)],
        pass_fds=[sock.fileno() for sock in ours],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))},
        timeout=20,
        stderr=subprocess.DEVNULL,
    )
    for sock in ours:
        sock.close()
    received = []
    for _, peer in pairs:
        with peer:
            received.append(b"".join(iter(lambda: peer.recv(100), b"")))  # noqa: B023
    assert received == [b"last words"] * connections
