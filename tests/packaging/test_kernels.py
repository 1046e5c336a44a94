"""`make test-kernels`: the tests that it runs are there, and it counts them right.  It boots no kernel here."""

import os
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from tests.children import ROOT

KERNELS = ROOT / "tools/kernels"
CASES = """
<testsuites><testsuite>
  <testcase classname="tests.ring.test_groups" name="test_lend[io_uring]"/>
  <testcase classname="tests.ring.test_groups" name="test_lend[epoll]"/>
  <testcase classname="tests.ring.test_groups" name="test_close[io_uring]"><skipped/></testcase>
  <testcase classname="tests.loop.test_tcp" name="test_echo[epoll-1]"><failure/></testcase>
  <testcase classname="tests.loop.test_tcp" name="test_echo[ring-1]"><error/></testcase>
</testsuite></testsuites>
"""


def run(program: str, *arguments: str) -> list[str]:
    """Run a program that may import the modules of tools/kernels; the lines of its output."""
    command = [sys.executable, "-B", "-c", textwrap.dedent(program), *arguments]
    return subprocess.check_output(command, text=True, cwd=KERNELS).splitlines()


def test_chosen_tests_are_there() -> None:
    chosen = run("import runpy; print(*runpy.run_path('__main__.py')['TESTS'], sep='\\n')")
    assert len(chosen) > 2
    assert [path for path in chosen if not (ROOT / path).exists()] == []


def test_wheel_is_for_the_python_of_the_root() -> None:
    (python,) = run("import root; print(root.PYTHON.replace('.', ''))")
    assert f"tag=cp{python}-cp{python}-manylinux" in (KERNELS / "run").read_text()


def test_page_tells_each_outcome_on_each_backend() -> None:
    program = """
        import sys, xml.etree.ElementTree, guest, page
        doctor = {"kernel": "Linux 6.1.0-50-amd64", "python": "CPython 3.13", "backend": "io_uring", "usable": True}
        doctor |= {"operations": ["NOP", "READ"], "optional": {"buffer_rings": True, "epoll_wait": False}}
        tests = xml.etree.ElementTree.fromstring(sys.argv[1])
        results = {"bookworm": guest.Results([], doctor, tests, True)}
        print(*page._offers(results), *page._tests(results), sep="\\n")
    """
    assert run(program, CASES.strip()) == [
        "|  | 6.1 |",
        "|---|---|",
        "| Debian's suite | bookworm |",
        "| a loop gets | io_uring |",
        "| `buffer_rings` | yes |",
        "| `epoll_wait` | no |",
        "| operations | 2 |",
        "| kernel | backend | passed | skipped | failed | all ran |",
        "|---|---|--:|--:|--:|---|",
        "| 6.1 | io_uring | 1 | 1 | 1 | yes |",
        "| 6.1 | epoll | 1 | 0 | 1 | yes |",
        "",
        "6.1 (bookworm) failed `tests.loop.test_tcp::test_echo[epoll-1]`.",
        "",
        "6.1 (bookworm) failed `tests.loop.test_tcp::test_echo[ring-1]`.",
    ]


@pytest.mark.parametrize(("sleep_s", "code"), [(0, 1), (10, 124)], ids=["failed", "late"])
def test_guest_keeps_the_exit_code_of_pytest(tmp_path: Path, sleep_s: int, code: int) -> None:
    guest = (KERNELS / "guest").read_text()
    lines = guest[guest.index("eval ") : guest.index("leave_results\necho ")].replace("/results", str(tmp_path))
    (tmp_path / "arguments").write_text("'a b' c")
    (tmp_path / "seconds").write_text("1")
    (tmp_path / "python3").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >told; sleep {sleep_s}; exit 1\n')
    (tmp_path / "python3").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", lines], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    assert (tmp_path / "told").read_text().splitlines()[-2:] == ["a b", "c"]
    assert int((tmp_path / "code").read_text()) == code


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "False False"),
        ({"code": "139"}, "False False"),
        ({"code": "139", "tests.xml": "<testsuites>"}, "False False"),
        ({"code": "124", "tests.xml": CASES.strip()}, "True False"),
        ({"code": "1", "tests.xml": CASES.strip()}, "True True"),
    ],
    ids=["no code", "killed", "killed in the record", "late", "failed"],
)
def test_results_without_a_record_are_not_complete(tmp_path: Path, files: dict[str, str], told: str) -> None:
    (tmp_path / "suite").mkdir()
    with tarfile.open(tmp_path / "suite/results.tar", "w") as archive:
        for name, content in {"arguments": "a", "doctor.json": "{}", **files}.items():
            (tmp_path / name).write_text(content)
            archive.add(tmp_path / name, name)
    program = """
        import pathlib, sys, guest
        guest.HOME = pathlib.Path(sys.argv[1])
        result = guest.read("suite")
        print(result.tests is not None, result.complete)
    """
    assert run(program, str(tmp_path)) == [told]


def test_first_files_of_a_guest_are_numbered_and_padded(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"12345")
    program = """
        import pathlib, sys, initramfs
        folder = pathlib.Path(sys.argv[1])
        initramfs.write(folder / "cpio", folder / "busybox", [("b", b"1"), ("a", b"22")])
    """
    run(program, str(tmp_path))
    data, names, at = (tmp_path / "cpio").read_bytes(), {}, 0
    while at < len(data):
        assert (at % 4, data[at : at + 6]) == (0, b"070701")
        size, name_size = (int(data[at + 6 + 8 * field : at + 14 + 8 * field], 16) for field in (6, 11))
        begin = at + 110 + name_size
        name, begin = data[at + 110 : begin - 1].decode(), begin + -begin % 4
        names[name] = data[begin : begin + size]
        at = begin + size + -(begin + size) % 4
    assert (names["modules/00-b.ko"], names["modules/01-a.ko"], names["bin/busybox"]) == (b"1", b"22", b"12345")
    assert names["init"] == (KERNELS / "init").read_bytes()
    assert list(names)[-1] == "TRAILER!!!"
