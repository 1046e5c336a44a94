"""A server in a process of its own: what it says is waited for, and nothing of it is left."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.children import ROOT, environment

#: It is never waited for when all is well.
TIMEOUT_SECONDS = 60


class Server:
    """A server and all that it starts, a process group; what it says on standard output and standard error."""

    def __init__(self, command: Sequence[str | Path], options: dict[str, Any], variables: dict[str, str]) -> None:
        self._lines: list[str] = []
        self._ended = False
        self._said = threading.Condition()
        self.process = subprocess.Popen(
            [str(word) for word in command],
            **{"cwd": ROOT, **options},
            env=environment(PYTHONUNBUFFERED="1", **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self._lines.append(line)
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def until_says(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until a pattern was found this many times, from the start; returns its group, or the whole, of each."""

        def found() -> list[str]:
            return re.findall(pattern, self.output)

        with self._said:
            self._said.wait_for(lambda: len(found()) >= count or self._ended, TIMEOUT_SECONDS)
            assert len(found()) >= count, f"{pattern!r} was not said {count} times:\n{self.output}"
            return found()

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its end and that of everything it started; returns how it ended."""
        self.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(TIMEOUT_SECONDS)
        # Its children have the same output, so it ends after them.
        self._reader.join(TIMEOUT_SECONDS)
        assert not self._reader.is_alive(), f"something that it started is left:\n{self.output}"
        assert not re.search("Traceback|ResourceWarning", self.output), self.output
        return code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def running(command: Sequence[str | Path], options: dict[str, Any] | None = None, **variables: str) -> Iterator[Server]:
    """Run a server while the block runs; whoever still runs then is killed.

    Args:
        command: its words.
        options: for `subprocess.Popen`: another user, another folder.
        variables: set in its environment.
    """
    server = Server(command, options or {}, variables)
    try:
        yield server
    finally:
        server.kill()


def module(name: str, *arguments: str | Path) -> list[str | Path]:
    """The command that runs a module with this Python, which tells what was not closed."""
    return [sys.executable, "-W", "always::ResourceWarning", "-m", name, *arguments]
