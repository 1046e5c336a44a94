"""prompt_toolkit on a pseudo-terminal: `prompt_async` on `uringloop.run`, and `Application.run` after `install()`."""

import json
import sys
import termios
from typing import Any

from .load import LOOP, check_loop
from .terminal import Terminal, on_terminal

COMMAND = [sys.executable, "-W", "always::ResourceWarning", "-m", "tests.consumers.apps.prompt_app"]


def report_at_the_end(terminal: Terminal) -> dict[str, Any]:
    """Wait for the program's end; the terminal is as it was, and the report of the loop was printed last.

    The screen may have older text below, since pyte has no second screen for programs that take it whole.
    """
    assert terminal.wait() == 0
    assert terminal.settings == terminal.settings_now()
    assert "Warning" not in terminal.text
    report: dict[str, Any]
    report, _ = json.JSONDecoder().raw_decode("{" + terminal.text.replace("\n", "").rpartition("{")[2])
    return report


def test_lines(backend: str) -> None:
    with on_terminal([*COMMAND, "lines"], URINGLOOP_BACKEND=backend) as terminal:
        terminal.until_shows("tick 5")
        for number in range(10):
            terminal.press(f"wrong\x15number {number}\r")
            terminal.until_shows(f"NUMBER {number}\n")
        # Ctrl-C is a key while the terminal is raw.
        terminal.press("forgotten\x03")
        terminal.until_shows("interrupted")
        terminal.press("\x04")
        check_loop(report_at_the_end(terminal), backend)


def test_whole_screen(backend: str) -> None:
    with on_terminal([*COMMAND, "screen"], URINGLOOP_BACKEND=backend) as terminal:
        terminal.until_shows("80 by 24")
        assert terminal.settings_now() != terminal.settings
        assert not terminal.settings_now()[3] & termios.ECHO
        for columns in range(40, 50):
            terminal.resize(20, columns)
            terminal.until_shows(f"{columns} by 20")
        terminal.press("q")
        report = report_at_the_end(terminal)
        assert (report["loop"], report["backend"]) == (LOOP, backend)
