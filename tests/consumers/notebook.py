"""A notebook that uses the loop of its kernel, cell by cell; each cell fails if something is wrong."""

import textwrap
from collections.abc import Sequence

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

_CONNECTIONS = """
from tests.consumers.reporting import echoing, report

async with echoing() as ask:
    for number in range(100):
        body = bytes([number]) * number * 100
        assert await ask(body) == body
    print(report())
"""
_CHILD = """
import sys

child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(7)", stdout=asyncio.subprocess.PIPE)
assert await child.communicate() == (b"7\\n", None) and child.returncode == 0
assert await asyncio.to_thread(sum, range(10)) == 45
"""
_IN_THE_BACKGROUND = """
import asyncio

ended = asyncio.Event()
counted = []

async def count():
    while not ended.is_set():
        counted.append(1)
        await asyncio.sleep(0.001)

counting = asyncio.create_task(count())
"""
_BETWEEN_THE_CELLS = """
assert counted
ended.set()
await counting
"""
_NESTED = """
import nest_asyncio2 as nest_asyncio

nest_asyncio.apply()

async def answer():
    async with echoing() as ask:
        return await ask(b"nested")

assert asyncio.run(answer()) == b"nested"
assert asyncio.get_event_loop().run_until_complete(answer()) == b"nested"
"""
#: The report is that of the loop in the first of these cells.
CELLS = (_CONNECTIONS, _IN_THE_BACKGROUND, _CHILD, _BETWEEN_THE_CELLS, _NESTED, _CONNECTIONS)


def notebook(*cells: str) -> NotebookNode:
    """Make a notebook of these cells."""
    return new_notebook(cells=[new_code_cell(textwrap.dedent(cell).strip()) for cell in cells])


def printed(cells: Sequence[NotebookNode]) -> list[str]:
    """Return what each cell wrote to standard output."""
    return ["".join(each["text"] for each in cell["outputs"] if each.get("name") == "stdout") for cell in cells]
