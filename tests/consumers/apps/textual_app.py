"""Textual: an input whose lines go through an echo server of the same loop, and labels of a timer and of the size."""

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import ClassVar

from textual import events, work
from textual.app import App, ComposeResult
from textual.widgets import Input, Label

import uringloop
from tests.consumers.reporting import Ask, echoing, report


class Echo(App[str]):
    BINDINGS: ClassVar = [("ctrl+n", "end", "End")]

    def __init__(self) -> None:
        super().__init__()
        self._ask: Ask | None = None
        self._stack = AsyncExitStack()
        self._ticks = 0

    def compose(self) -> ComposeResult:
        yield Input()
        yield Label(id="answer")
        yield Label(id="ticks")
        yield Label(id="size")

    async def on_mount(self) -> None:
        self._ask = await self._stack.enter_async_context(echoing())
        self.set_interval(0.02, self.tick)

    def tick(self) -> None:
        self._ticks += 1
        if self._ticks <= 5:
            self.query_one("#ticks", Label).update(f"ticks: {self._ticks}")

    def on_resize(self, event: events.Resize) -> None:
        self.query_one("#size", Label).update(f"{event.size.width} by {event.size.height}")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.echo(event.value)

    @work(exclusive=True)
    async def echo(self, line: str) -> None:
        assert self._ask is not None
        answer = await self._ask(line.encode())
        # In a thread, as Textual's workers may run.
        upper = await asyncio.to_thread(answer.upper)
        self.query_one("#answer", Label).update(upper.decode())
        self.query_one(Input).clear()

    async def action_end(self) -> None:
        said = report()
        await self._stack.aclose()
        self.exit(said)


if __name__ == "__main__":
    app = Echo()
    print(uringloop.run(app.run_async()) if sys.argv[1] == "run_async" else app.run(loop=uringloop.new_event_loop()))
