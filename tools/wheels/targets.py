"""The wheels that are built: for each Python, machine and C library."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Where everything but the results is kept.
HOME = ROOT / ".wheels"
MACHINES = ("x86_64", "aarch64")
#: Pythons without the GIL that asyncio is ready for, and that have the same headers as those with it.
FREE_THREADED = ("3.14",)


@dataclass(frozen=True)
class Libc:
    """A C library: its part of the wheels' tag, of Zig's target, and of an extension's suffix."""

    platform: str
    zig: str
    suffix: str


LIBCS = (Libc("manylinux_2_28", "gnu.2.28", "gnu"), Libc("musllinux_1_2", "musl", "musl"))


@dataclass(frozen=True)
class Target:
    """One wheel."""

    python: str  # as 3.14
    free_threaded: bool
    machine: str
    libc: Libc

    @property
    def platform(self) -> str:
        return f"{self.libc.platform}_{self.machine}"

    @property
    def tag(self) -> str:
        """Its tags, as the wheel's name has them."""
        python = "cp" + self.python.replace(".", "")
        return f"{python}-{python}{'t' * self.free_threaded}-{self.platform}"

    @property
    def zig(self) -> str:
        return f"{self.machine}-linux-{self.libc.zig}"

    @property
    def soname(self) -> str | None:
        """The name that Python's own libraries have for musl, as Alpine gives it; None where Zig has the right one."""
        return f"libc.musl-{self.machine}.so.1" if self.libc.zig == "musl" else None

    @property
    def abi(self) -> str:
        """The ABI in an extension's suffix, as CPython's configure makes it (SOABI)."""
        version = self.python.replace(".", "") + "t" * self.free_threaded
        return f"cpython-{version}-{self.machine}-linux-{self.libc.suffix}"


def pythons() -> list[str]:
    """Return the versions of Python that pyproject.toml names, oldest first."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        classifiers = tomllib.load(file)["project"]["classifiers"]
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", name) for name in classifiers]
    return [match[1] for match in found if match]


def targets() -> Iterator[Target]:
    """Yield each target, the Pythons in order."""
    for python in pythons():
        for free_threaded in (False, True) if python in FREE_THREADED else (False,):
            for machine in MACHINES:
                for libc in LIBCS:
                    yield Target(python, free_threaded, machine, libc)
