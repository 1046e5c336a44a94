"""The C core compiles without a warning, and its numbers are abi.py's and the kernel's."""

import enum
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from uringloop.ring import abi

from .sources import CORE, PACKAGE, c_files, relative

KERNEL_HEADER = Path("/usr/include/linux/io_uring.h")
#: The kernel's prefix of each of abi.py's classes.
CLASSES: dict[str, type[enum.IntEnum] | type[enum.IntFlag]] = {
    "IORING_OP_": abi.Opcode,
    "IORING_SETUP_": abi.Setup,
    "IORING_FEAT_": abi.Feature,
    "IOSQE_": abi.SqeFlag,
    "IORING_CQE_F_": abi.CqeFlag,
    "IORING_ENTER_": abi.Enter,
    "IORING_REGISTER_": abi.Register,
    "IORING_UNREGISTER_": abi.Unregister,
    "IORING_RESTRICTION_": abi.Restriction,
    "IORING_ASYNC_CANCEL_": abi.CancelFlag,
}
#: The numbers of abi.py outside of its classes, by the kernel's names.
LOOSE = {
    "IORING_ACCEPT_MULTISHOT": abi.ACCEPT_MULTISHOT,
    "IORING_POLL_ADD_MULTI": abi.POLL_ADD_MULTI,
    "IO_URING_OP_SUPPORTED": abi.OP_SUPPORTED,
    "IORING_RSRC_REGISTER_SPARSE": abi.RSRC_REGISTER_SPARSE,
    "IORING_REGISTER_FILES_SKIP": abi.FILES_SKIP,
}


def compiler() -> str:
    """The C compiler, as setup.py would find it."""
    found = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler here")
    return found


def compile_c(*arguments: str, source: str | None = None) -> str:
    """What the compiler has to say; empty if it is content."""
    command = [
        compiler(),
        "-std=gnu11",
        "-O2",
        f"-I{PACKAGE}",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-c",
        "-o",
        os.devnull,
        *arguments,
    ]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False).stderr


def python_numbers() -> dict[str, int]:
    """Every number of abi.py by the kernel's name."""
    numbers = {prefix + member.name: int(member) for prefix, names in CLASSES.items() for member in names}
    return {**numbers, **LOOSE}


def core_numbers() -> dict[str, int]:
    """Every number that abi.h defines."""
    defines = re.findall(r"^#define (IO\w+) (.+)$", (CORE / "abi.h").read_text(), flags=re.M)
    assert defines
    return {name: _value(text) for name, text in defines}


def _value(text: str) -> int:
    """`(1U << 5)`, `16` or `0x10000000ULL`."""
    match = re.fullmatch(r"\(?(\w+?)(?:ULL|UL|U)?(?: << (\d+)\))?", text.strip())
    assert match, f"abi.h: cannot read {text!r}"
    return int(match[1], 0) << int(match[2] or 0)


@pytest.mark.parametrize("source", [path for path in c_files() if path.suffix == ".c"], ids=relative)
def test_compiles_without_a_warning(source: Path) -> None:
    assert compile_c(str(source)) == ""


def test_core_and_python_agree() -> None:
    python, core = python_numbers(), core_numbers()
    known = {name: value for name, value in core.items() if name.startswith(tuple(CLASSES))}
    assert {name: python.get(name) for name in known} == known
    assert {name: python[name] for name in core.keys() & python.keys()} == {
        name: core[name] for name in core.keys() & python.keys()
    }


def test_the_kernel_agrees() -> None:
    """With the header that this machine has, as far as it goes: it may be older than the running kernel."""
    if not KERNEL_HEADER.exists():
        pytest.skip(f"no {KERNEL_HEADER}")
    ours = {**python_numbers(), **core_numbers()}
    theirs = set(re.findall(r"\bIO(?:RING|SQE|_URING)_\w+", KERNEL_HEADER.read_text()))
    common = ours.keys() & theirs
    assert len(common) > 80
    asserts = "".join(f'_Static_assert({name} == {ours[name]}, "{name}");\n' for name in sorted(common))
    assert compile_c("-xc", "-", source=f"#include <linux/io_uring.h>\n{asserts}") == ""
