"""Twisted's asyncio reactor on every loop, in a process of its own: there is one reactor in a process."""

import subprocess
import sys

import pytest

from tests.children import ROOT, environment
from tests.variants import BOTH_SLEEPS

from .needs import library

library("twisted")

pytestmark = pytest.mark.compat

_TIMEOUT_SECONDS = 60

_PRELUDE = """
import os, sys
from tests.variants import FACTORIES
from twisted.internet import asyncioreactor
loop = FACTORIES[sys.argv[1]]()
asyncioreactor.install(loop)
from twisted.internet import endpoints, error, protocol, reactor, task

def fail():
    print("timed out", flush=True)
    os._exit(1)

reactor.callLater(30, fail)
"""


def run(program: str, loop: str) -> str:
    """Run a program after the prelude above; returns what it printed."""
    command = [sys.executable, "-c", _PRELUDE + program, loop]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


each_loop = pytest.mark.parametrize("loop", ["asyncio", "auto", *BOTH_SLEEPS])


@each_loop
def test_it_hears_of_the_end_of_each_child(loop: str) -> None:
    """The children close their pipes long before: only the signal tells."""
    program = """
ended = []

class Child(protocol.ProcessProtocol):
    def processEnded(self, reason):
        ended.append(reason.value.exitCode)
        if len(ended) == 20:
            reactor.stop()

def start():
    for number in range(20):
        command = f"exec <&- >&- 2>&-; sleep 0.0{number}; exit 3"
        reactor.spawnProcess(Child(), "/bin/sh", ["sh", "-c", command], {"PATH": os.environ["PATH"]})

reactor.callWhenRunning(start)
reactor.run()
loop.close()
print(ended)
"""
    assert run(program, loop) == f"{[3] * 20}\n"


@each_loop
def test_it_serves_and_connects(loop: str) -> None:
    program = """
class Echo(protocol.Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

class Client(protocol.Protocol):
    received = 0
    def connectionMade(self):
        self.transport.write(b"x" * 300_000)
    def dataReceived(self, data):
        self.received += len(data)
        if self.received == 300_000:
            self.transport.loseConnection()
    def connectionLost(self, reason):
        print(self.received, reason.check(error.ConnectionDone) is not None)
        reactor.stop()

def connect(port):
    endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    endpoints.connectProtocol(endpoint, Client())

server = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
server.listen(protocol.Factory.forProtocol(Echo)).addCallback(connect)
reactor.run()
loop.close()
"""
    assert run(program, loop) == "300000 True\n"
