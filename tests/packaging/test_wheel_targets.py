"""`make wheels` builds for each Python that is supported, with each machine and C library."""

import subprocess
import sys

import pytest

from tests.children import ROOT

WHEELS = ROOT / "tools/wheels"


def run(program: str) -> str:
    """Run a program that may import the modules of tools/wheels; its output."""
    return subprocess.check_output([sys.executable, "-c", program], text=True, cwd=WHEELS)


def test_each_supported_python_has_four_wheels() -> None:
    tags = run("import targets\nfor target in targets.targets(): print(target.tag)").splitlines()
    classifiers = (ROOT / "pyproject.toml").read_text()
    pythons = {tag.partition("-")[0] for tag in tags}
    assert {f"cp3{minor}" for minor in range(11, 30) if f"Python :: 3.{minor}" in classifiers} == pythons
    platforms = ["manylinux_2_28_aarch64", "manylinux_2_28_x86_64", "musllinux_1_2_aarch64", "musllinux_1_2_x86_64"]
    for abi in [*(f"{python}-{python}" for python in pythons), "cp314-cp314t"]:
        assert sorted(tag.removeprefix(f"{abi}-") for tag in tags if tag.startswith(f"{abi}-")) == platforms


@pytest.mark.parametrize(
    ("tag", "suffix"),
    [
        ("cp313-cp313-manylinux_2_28_x86_64", "cpython-313-x86_64-linux-gnu"),
        ("cp314-cp314t-musllinux_1_2_aarch64", "cpython-314t-aarch64-linux-musl"),
    ],
)
def test_extensions_are_named_as_their_python_looks_for_them(tag: str, suffix: str) -> None:
    program = f"import targets\nprint(*(target.abi for target in targets.targets() if target.tag == {tag!r}))"
    assert run(program).strip() == suffix


@pytest.mark.parametrize(
    ("tag", "soname"),
    [
        ("cp313-cp313-musllinux_1_2_x86_64", "libc.musl-x86_64.so.1"),
        ("cp313-cp313-musllinux_1_2_aarch64", "libc.musl-aarch64.so.1"),
        ("cp313-cp313-manylinux_2_28_x86_64", "None"),
    ],
)
def test_extensions_need_musl_by_the_name_that_alpine_gives_it(tag: str, soname: str) -> None:
    program = f"import targets\nprint(*(target.soname for target in targets.targets() if target.tag == {tag!r}))"
    assert run(program).strip() == soname
