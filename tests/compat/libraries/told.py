"""What README tells the reader to write, for the tests to do just that."""

import re

from tests.children import ROOT


def block(containing: str) -> str:
    """The one python block of README with this in it."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    (found,) = (block for block in blocks if containing in block)
    return found
