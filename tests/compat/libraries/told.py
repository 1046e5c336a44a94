"""What docs/libraries.md tells the reader to write, so that the tests do just that."""

import re

from tests.children import ROOT


def block(containing: str) -> str:
    """Return the one python block of the page with this in it."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "libraries.md").read_text(), flags=re.M | re.S)
    (found,) = (block for block in blocks if containing in block)
    return found
