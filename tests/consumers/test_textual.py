"""Textual on a pseudo-terminal: `uringloop.run(app.run_async())`, and `app.run(loop=...)`."""

import sys

import pytest

from .load import check_loop
from .terminal import on_terminal
from .test_prompt_toolkit import report_at_the_end

COMMAND = [sys.executable, "-W", "always::ResourceWarning", "-m", "tests.consumers.apps.textual_app"]


@pytest.mark.parametrize("way", ["run_async", "run"])
def test_keys_timers_sizes_and_a_connection(backend: str, way: str) -> None:
    with on_terminal([*COMMAND, way], URINGLOOP_BACKEND=backend) as terminal:
        terminal.until_shows("80 by 24")
        terminal.until_shows("ticks: 5")
        for number in range(10):
            terminal.press(f"number {number}\r")
            terminal.until_shows(f"NUMBER {number}")
        for columns in range(40, 45):
            terminal.resize(20, columns)
            terminal.until_shows(f"{columns} by 20")
        terminal.press("\x0e")
        check_loop(report_at_the_end(terminal), backend)
