"""A name service that a test holds as long as it likes (nss_gated.c), put before the C library's own ones.

Names below .gated have the addresses 127.0.0.1 and ::2.  missing.gated is not there, and again.gated cannot be told at
the moment.  Those below .held.gated wait at the gate first.  No such name gets to a name server.
"""

import asyncio
import ctypes
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.test_core import compiler
from tests.pool.jobs import Gate

_SOURCE = Path(__file__).parent / "nss_gated.c"
_NAME = "libnss_gated.so.2"
#: After a found name, and where the service is unavailable or busy, no other one is asked.
_SERVICES = b"gated [UNAVAIL=return TRYAGAIN=return] files dns"

#: The addresses of each name, on port 80.
FOUND = [("127.0.0.1", 80), ("::2", 80, 0, 0)]


@cache
def load() -> ctypes.CDLL:
    """Compile the service, and have this process ask it for good; the C library finds it by its soname."""
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/{_NAME}"
        flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{_NAME}"]
        subprocess.run([compiler(), *flags, "-o", made, str(_SOURCE)], check=True)
        service = ctypes.CDLL(made)
    configure = getattr(ctypes.CDLL(None), "__nss_configure_lookup", None)
    if configure is None:
        pytest.skip("this C library has no name services")
    assert configure(b"hosts", _SERVICES) == 0
    return service


def use(gate: Gate) -> None:
    """Have the held names of this process wait at a gate."""
    load().gated_use(gate.begun, gate.held)


def run(program: str) -> str:
    """Run a program in a process of its own, where `gate` is a gate; return what it prints."""
    begin = "from tests.loop import gated\nfrom tests.pool.jobs import Gate\ngate = Gate()\ngated.use(gate)\n"
    finished = subprocess.run(
        [sys.executable, "-c", begin + program], capture_output=True, text=True, check=False, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


async def addresses(name: str) -> list[Any]:
    """Return a name's addresses in order."""
    found = await asyncio.get_running_loop().getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    return sorted((entry[4] for entry in found), key=str)


def begin(name: str) -> "asyncio.Task[list[Any]]":
    """Begin a look-up."""
    return asyncio.create_task(addresses(name))


async def begun(gate: Gate, count: int) -> None:
    """Wait until held look-ups run, while the loop goes on."""
    await asyncio.to_thread(gate.wait_begun, count)
