"""Run the doctor and tests on Debian's kernels, each booted in qemu, and write docs/kernels.md."""

import argparse
import os
import sys
from pathlib import Path

import guest
import page
import root
from kernels import HOME, SUITES, fetch

#: What asks most of a kernel in a time that an emulated machine has: each operation, and each kind of connection.
TESTS = (
    "tests/ring",
    "tests/operations",
    *(f"tests/loop/test_{name}.py" for name in ("tcp", "server", "sockets", "pipes", "processes")),
    *(f"tests/files/test_{name}.py" for name in ("read", "write", "direct")),
)
#: An emulated machine is slow, and more so beside other work.
_TEST_LIMIT_S = 1200
#: How long a guest may take besides pytest.
_BOOT_LIMIT_S = 1800


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/kernels/run", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; without any, all are")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="run these tests; the page stays as it is")
    parser.add_argument("--minutes", type=float, default=90, help="how long pytest may run in each; 90 by default")
    options = parser.parse_args()
    # Not `choices`: it refuses to be given no suite at all.
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no such suite: {', '.join(unknown)}, of {', '.join(SUITES)}")
    seconds = options.minutes * 60
    arguments = ["--timeout", str(_TEST_LIMIT_S), *(options.tests or TESTS)]
    image = root.make(Path(os.environ["WHEEL"]).resolve(), arguments, seconds)
    bad = 0
    for suite in options.suites or SUITES:
        result = guest.run(fetch(suite), image, seconds + _BOOT_LIMIT_S)
        bad += result is None or not result.complete or bool(page.failed(result))
        print(f"{suite}: {describe(result)}; its console is in {HOME / suite / 'console.log'}", flush=True)
    if not options.tests:
        # Those of the other kernels are of an earlier run, and count if it was of these tests.
        found = {suite: result for suite in SUITES if (result := guest.read(suite)) and result.arguments == arguments}
        if found:
            page.write(found, TESTS)
    sys.exit(1 if bad else 0)


def describe(result: guest.Results | None) -> str:
    if result is None:
        return "no results"
    failed = page.failed(result)
    said = "all tests ran" if result.complete else "not all tests ran"
    return f"{result.doctor['kernel']}, backend {result.doctor['backend']}, {said}, {len(failed)} failed {failed}"


if __name__ == "__main__":
    main()
