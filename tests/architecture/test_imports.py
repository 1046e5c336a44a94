"""What importing a room of the package brings along."""

import subprocess
import sys

from .sources import PACKAGE

#: Imports the ring below a package that imports nothing itself, and prints what came along.
SCRIPT = """
import sys, types

package = types.ModuleType("uringloop")
package.__path__ = [sys.argv[1]]
sys.modules["uringloop"] = package
import uringloop.ring

print(*sys.modules)
"""


def test_the_ring_brings_no_event_loop_along() -> None:
    command = [sys.executable, "-c", SCRIPT, str(PACKAGE)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    rooms = {name.split(".")[1] for name in loaded if name.startswith("uringloop.")}
    assert rooms == {"ring"}
    assert not {"asyncio", "ssl"} & set(loaded)
