"""Use the installed package where nothing else of the project is: README's programs, the smoke test, the doctor."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = 3
HERE = Path(__file__).parent


def main() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (HERE / "README.md").read_text(), flags=re.M | re.S)
    programs = [*blocks[:PROGRAMS], (HERE / "smoke.py").read_text()]
    assert len(programs) == PROGRAMS + 1
    for program in programs:
        with tempfile.TemporaryDirectory() as folder:
            finished = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
        if finished.returncode:
            raise SystemExit(f"{program}\n{finished.stdout}{finished.stderr}")
        print(finished.stdout.splitlines()[-1])
    # It fails where io_uring is refused, and says why.
    subprocess.run([sys.executable, "-m", "uringloop"], check=False)


if __name__ == "__main__":
    main()
