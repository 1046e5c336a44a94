"""docs/kernels.md: what each kernel offers, and which tests passed there, made from the results of the guests."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from guest import Results
from kernels import ROOT

PAGE = ROOT / "docs/kernels.md"
_MADE = re.compile(r"(?<=<!-- made by make test-kernels -->\n).*?(?=<!-- end -->)", flags=re.S)
_WIDTH = 120
_BACKENDS = ("io_uring", "epoll")
_OUTCOMES = ("passed", "skipped", "failed")


def write(results: Mapping[str, Results], chosen: Sequence[str]) -> None:
    """Write the tables into the page.

    Args:
        results: those of each suite's kernel, oldest first.
        chosen: the tests, as given to pytest.
    """
    parts = (_offers(results), _tests(results), _circumstances(results, chosen))
    text = "\n\n".join("\n".join(part) for part in parts) + "\n"
    page, count = _MADE.subn(lambda _: text, PAGE.read_text())
    assert count == 1, "the page has no place for the tables"
    PAGE.write_text(page)


def _offers(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield a table of the doctor's answers, a column for each kernel."""
    doctors = [result.doctor for result in results.values()]
    yield _row("", *(_version(result) for result in results.values()))
    yield "|---" * (len(doctors) + 1) + "|"
    yield _row("Debian's suite", *results)
    yield _row("a loop gets", *(doctor["backend"] for doctor in doctors))
    for name in doctors[-1]["optional"]:
        yield _row(f"`{name}`", *("yes" if _uses(doctor, name) else "no" for doctor in doctors))
    yield _row("operations", *(len(doctor["operations"]) if doctor["usable"] else "none" for doctor in doctors))


def _uses(doctor: Mapping[str, Any], name: str) -> bool:
    """Return whether a loop on io_uring uses an optional feature; the backend epoll has its own."""
    return doctor["backend"] == "io_uring" and doctor["optional"][name]


def _tests(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield a table of the tests' outcomes, a row for each kernel and backend, and what failed."""
    yield _row("kernel", "backend", *_OUTCOMES, "all ran")
    yield "|---|---|--:|--:|--:|---|"
    for result in results.values():
        if result.tests is None:
            yield _row(_version(result), "both", *[""] * len(_OUTCOMES), "no, and it left no record")
            continue
        counts = Counter(_outcome(case) for case in _cases(result))
        for backend in _BACKENDS:
            numbers = [counts[backend, outcome] for outcome in _OUTCOMES]
            yield _row(_version(result), backend, *numbers, "yes" if result.complete else "no, the time was up")
    for suite, result in results.items():
        for name in failed(result):
            yield f"\n{_version(result)} ({suite}) failed `{name}`."


def failed(result: Results) -> list[str]:
    """Return the names of the tests that failed."""
    return [f"{case.get('classname')}::{case.get('name')}" for case in _cases(result) if _outcome(case)[1] == "failed"]


def _cases(result: Results) -> list[Element]:
    return [] if result.tests is None else list(result.tests.iter("testcase"))


def _outcome(case: Element) -> tuple[str, str]:
    """Return the backend of a test and how it ended."""
    words = re.split(r"[\[\]-]", case.get("name", ""))
    backend = "epoll" if "epoll" in words else "io_uring"
    if case.find("failure") is not None or case.find("error") is not None:
        return backend, "failed"
    return backend, "passed" if case.find("skipped") is None else "skipped"


def _circumstances(results: Mapping[str, Results], chosen: Sequence[str]) -> Iterator[str]:
    kernels = ", ".join(result.doctor["kernel"].removeprefix("Linux ") for result in results.values())
    python = next(iter(results.values())).doctor["python"]
    said = f"Of {datetime.now(UTC).date()}, on {python}. The kernels: {kernels}."
    if any(result.tests is not None for result in results.values()):
        said += f" The tests: {', '.join(chosen)}."
    yield from textwrap.wrap(said, _WIDTH, break_on_hyphens=False)


def _version(result: Results) -> str:
    """Return the first two numbers of a kernel's name."""
    matched = re.search(r"\d+\.\d+", result.doctor["kernel"])
    assert matched
    return matched[0]


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
