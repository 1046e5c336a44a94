"""How Sphinx reads docstrings.

A docstring is paragraphs, indented code, and Google's sections, with code in backticks.  No other mark of
reStructuredText is in it.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from uringloop import streams

CODE = re.compile(r"(`[^`]*`)")
SPECIAL = re.compile(r"([*|]|(?<=\w)_(?!\w))")
#: The names that a reader knows modules of the standard library by.
STANDARD = {"posix": "os", "posixpath": "os.path", "genericpath": "os.path", "_io": "io"}


def setup(app: Any) -> None:
    """Have Sphinx's autodoc ask this module."""
    # Before Google's sections are read.
    app.connect("autodoc-process-docstring", read_docstring, priority=400)


def read_docstring(_app: Any, _what: str, _name: str, value: Any, _options: Any, lines: list[str]) -> None:
    """Change a docstring's lines to reStructuredText, in place."""
    lines[:] = reference_elsewhere(value) or as_restructured(lines)


def reference_elsewhere(value: Any) -> list[str]:
    """Return what to read instead of the docstring of the standard library, which is not in these marks."""
    module = getattr(value, "__module__", None) or ""
    if module == streams.__name__ and inspect.isfunction(value):
        # asyncio's functions over other classes.
        module = "asyncio.streams"
    if not isinstance(module, str) or module.startswith("uringloop") or not hasattr(value, "__qualname__"):
        return []
    package = "asyncio" if module.startswith("asyncio.") else STANDARD.get(module, module)
    return [f"See `{package}.{value.__qualname__}`."]


def as_restructured(lines: list[str]) -> list[str]:
    """Return a docstring's lines with its code marked, and with marks escaped that are none there."""
    return list(_as_restructured(lines))


def _as_restructured(lines: list[str]) -> Iterator[str]:
    is_code = False
    before = ["", ""]
    for line in lines:
        indented = line.startswith("    ")
        if indented and not before[-1] and not before[-2].startswith(" ") and before[-2]:
            yield from ("::", "")
            is_code = True
        is_code = is_code and (indented or not line)
        yield line if is_code else escaped(line)
        before = [before[-1], line] if line or before[-1] else before


def escaped(line: str) -> str:
    """Return a line of prose with its marks escaped, but for code in backticks."""
    parts = [part if number % 2 else SPECIAL.sub(r"\\\1", part) for number, part in enumerate(CODE.split(line))]
    return re.sub(r"`(?=\\ )|(?<=\w`)(?=\w)", r"\\ ", "".join(parts))
