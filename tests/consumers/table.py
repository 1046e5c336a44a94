"""Writes the table of docs/libraries.md from the records of pytest (JUnit's XML).

    python -m tests.consumers.table here.xml --epoll there.xml

A record of tests that had URINGLOOP_TEST_BACKEND=epoll comes after `--epoll`.
"""

import argparse
import importlib.metadata
import platform
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from .rows import ROWS, Row
from .told import PAGE
from .venvs import packages_of

HEAD = "| library | what to say | passed | found |\n|---|---|---|---|\n"
_TABLE = re.compile(r"(?<=<!-- made by make test-consumers -->\n).*?(?=<!-- end -->)", flags=re.S)

#: A test on io_uring or epoll, and how it ended.
Outcome = tuple[str, str, str]


def outcomes(record: Path, everything_on_epoll: bool) -> Iterator[tuple[tuple[str | None, ...], Outcome]]:
    """Yield each test's identity and outcome; the tests on asyncio's own loop are left out."""
    for case in ElementTree.parse(record).iter("testcase"):
        name, _, parameters = case.get("name", "").partition("[")
        words = set(parameters.rstrip("]").split("-"))
        if "asyncio" in words:
            continue
        result = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")
        backend = "epoll" if everything_on_epoll or "epoll" in words else "io_uring"
        module = case.get("classname")
        yield (module, case.get("name"), str(everything_on_epoll)), (f"{module}::{name}", backend, result)


def belongs(name: str, row: Row) -> bool:
    return any(name.startswith(test if "::" in test else f"{test}::") for test in row.tests)


def line(row: Row, found: list[Outcome]) -> str:
    """Return the row of the table; it counts what passed on io_uring and on epoll, and names what did not."""
    counts = Counter((backend, result) for name, backend, result in found if belongs(name, row))
    passed = [f"{counts[backend, 'passed']} on {backend}" for backend in ("io_uring", "epoll")]
    others = Counter({result: count for (_, result), count in counts.items() if result != "passed"})
    told = ", ".join([*passed, *(f"**{count} {result}**" for result, count in others.items())])
    return f"| {versions(row)} | {row.switch} | {told} | {row.found} |\n"


def versions(row: Row) -> str:
    path = packages_of(row.venv) if row.venv else sys.path
    found = (next(iter(importlib.metadata.distributions(name=package, path=path))) for package in row.packages)
    return ", ".join(f"{package} {each.version}" for package, each in zip(row.packages, found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.consumers.table", description=__doc__)
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--epoll", nargs="*", type=Path, default=[])
    options = parser.parse_args()
    kinds = [(options.records, False), (options.epoll, True)]
    # A later record of a test takes the place of an earlier one.
    by_test = dict(each for records, epoll in kinds for record in records for each in outcomes(record, epoll))
    found = list(by_test.values())
    now = datetime.now(UTC).date()
    run = f"\nOf {now}, on CPython {platform.python_version()} and Linux {platform.release().partition('-')[0]}.\n\n"
    table = HEAD + "".join(line(row, found) for row in ROWS) + run
    page, count = _TABLE.subn(lambda _: table, PAGE.read_text())
    assert count == 1, "the page has no place for the table"
    PAGE.write_text(page)
    unlisted = {name for name, _, _ in found if not any(belongs(name, row) for row in ROWS)}
    bad = [(name, backend, result) for name, backend, result in found if result in ("failure", "error")]
    for name in sorted(unlisted):
        print(f"in no row: {name}", file=sys.stderr)
    sys.exit(1 if unlisted or bad else 0)


if __name__ == "__main__":
    main()
