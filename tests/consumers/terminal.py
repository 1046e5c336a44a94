"""A program on a pseudo-terminal: keys go in, and the screen is what its user would see."""

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyte

from tests.children import ROOT, environment
from tests.compat.libraries.processes import TIMEOUT_SECONDS

_SIZE = (24, 80)


class Terminal:
    """A program that owns a terminal of its own, and the screen that it draws."""

    def __init__(self, command: Sequence[str | Path], variables: dict[str, str]) -> None:
        self._fd, other = os.openpty()
        self._resize_tty(*_SIZE)
        self._screen = pyte.Screen(_SIZE[1], _SIZE[0])
        self._screen.write_process_input = self._answer
        self._stream = pyte.ByteStream(self._screen)
        self._drawn = threading.Condition()
        self._ended = False
        self.settings = self.settings_now()
        # setsid(1) makes the terminal that of the program, so that keys and sizes send signals.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *map(str, command)],
            cwd=ROOT,
            env=environment(TERM="xterm-256color", PYTHONUNBUFFERED="1", **variables),
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _answer(self, text: str) -> None:
        """Send what a terminal answers to a question, such as the place of the cursor."""
        os.write(self._fd, text.encode())

    def _read(self) -> None:
        while True:
            # Polled, so that the descriptor can be closed after the program's end.
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    text = os.read(self._fd, 1 << 16)
                except OSError:
                    # EIO: the program has ended.
                    text = b""
                with self._drawn:
                    if not text:
                        self._ended = True
                    else:
                        self._stream.feed(text)
                    self._drawn.notify_all()
                if not text:
                    return

    def _resize_tty(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings_now(self) -> list[Any]:
        """Return the terminal's modes, speeds and control characters."""
        return termios.tcgetattr(self._fd)

    def resize(self, rows: int, columns: int) -> None:
        with self._drawn:
            self._screen.resize(rows, columns)
        self._resize_tty(rows, columns)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def until_shows(self, text: str) -> None:
        """Wait until the screen has this text."""
        with self._drawn:
            self._drawn.wait_for(lambda: text in self.text or self._ended, TIMEOUT_SECONDS)
            assert text in self.text, f"{text!r} was not shown:\n{self.text}"

    def wait(self) -> int:
        code = self.process.wait(TIMEOUT_SECONDS)
        # All that it wrote is drawn before its end is read.
        self._reader.join(TIMEOUT_SECONDS)
        assert "Traceback" not in self.text, self.text
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._fd)


@contextlib.contextmanager
def on_terminal(command: Sequence[str | Path], **variables: str) -> Iterator[Terminal]:
    """Run a program on a terminal while the block runs, with these variables set in its environment."""
    terminal = Terminal(command, variables)
    try:
        yield terminal
    finally:
        terminal.close()
