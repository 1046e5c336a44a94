"""prompt_toolkit: lines go through an echo server of the same loop, beside a task that prints above the prompt."""

import asyncio
import sys

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.application import Application, get_app
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.patch_stdout import patch_stdout

import uringloop
from tests.consumers.reporting import echoing, report


async def ticks() -> None:
    for number in range(1, 6):
        await asyncio.sleep(0.02)
        print(f"tick {number}")


async def lines() -> None:
    session = PromptSession[str]("> ")
    async with echoing() as ask:
        with patch_stdout():
            ticking = asyncio.create_task(ticks())
            while True:
                try:
                    line = await session.prompt_async()
                except KeyboardInterrupt:
                    print_formatted_text("interrupted")
                except EOFError:
                    break
                else:
                    print_formatted_text((await ask(line.encode())).decode().upper())
            await ticking
        print(report())


def whole_screen() -> None:
    """Draw the size of the terminal until q is pressed; `run()` makes the loop itself."""
    keys = KeyBindings()

    @keys.add("q")
    def end(event: KeyPressEvent) -> None:
        event.app.exit(report())

    def size() -> str:
        rows, columns = get_app().output.get_size()
        return f"{columns} by {rows}"

    app = Application[str](Layout(Window(FormattedTextControl(size))), key_bindings=keys, full_screen=True)
    print(app.run())


if __name__ == "__main__":
    if sys.argv[1] == "lines":
        uringloop.run(lines())
    else:
        uringloop.install()
        whole_screen()
