"""A small part of the soak of `python -m tests.load`: psycopg, pyzmq and grpc.aio, with calls that are cancelled."""

import re
import subprocess
import sys

import pytest

from tests.children import ROOT, environment
from tests.load.churn import growth
from tests.load.libraries import psycopg_queries, pyzmq_messages
from tests.variants import EPOLL

from .databases import USER, Database
from .needs import library

pytestmark = pytest.mark.compat
LOOPS = ("ring", "epoll") if EPOLL else ("ring",)
on_backends = pytest.mark.asyncio(loop_factories=LOOPS)


@on_backends
async def test_psycopg(postgresql: Database) -> None:
    library("psycopg")
    dsn = f"host=127.0.0.1 port={postgresql.port} user={USER} dbname=postgres"
    left = await growth(lambda count: psycopg_queries(count, dsn), 50, 200)
    assert left.descriptors == 0


@on_backends
async def test_pyzmq() -> None:
    library("zmq")
    left = await growth(pyzmq_messages, 200, 1000)
    assert left.descriptors == 0


def test_grpc() -> None:
    """In a process of its own: grpc.aio keeps a thread and descriptors for good."""
    library("grpc")
    command = [sys.executable, "-m", "tests.load", "--loops", *LOOPS, "--connections", "0", "--timers", "0"]
    done = subprocess.run(
        [*command, "--grpc", "300"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\S+) +grpc +300 .*, (-?\d+)$", done.stdout, re.MULTILINE) == [(name, "0") for name in LOOPS]
