"""The recipes of docs/libraries.md, so that the tests do just that."""

import re
from pathlib import Path

from tests.children import ROOT

PAGE = ROOT / "docs" / "libraries.md"
_TITLED = re.compile(r'^```python title="([\w.]+)"\n(.*?)^```$', flags=re.M | re.S)


def recipes() -> dict[str, str]:
    """Return the files that the page shows, by their titles."""
    return dict(_TITLED.findall(PAGE.read_text()))


def write(title: str, folder: Path) -> Path:
    """Write a file that the page shows into a folder, as its reader does."""
    path = folder / title
    path.write_text(recipes()[title])
    return path
