"""Look at a wheel where auditwheel and check-wheel-contents do not."""

import io
import re
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from targets import Target

#: Functions that musl has only since a release of 1.2, and those that glibc's headers define by them.
NEWER_IN_MUSL = {"_Fork", "gettid", "preadv2", "pthread_getname_np", "pwritev2", "qsort_r", "reallocarray", "statx"}
ELF_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


def allows(report: str, target: Target) -> bool:
    """Return whether auditwheel's report on a wheel names its platform, or an older version of the same C library."""
    told = re.search(r'platform\s+tag:\s+"([a-z]+)_(\d+)_(\d+)_(\w+)"', report)
    asked = re.fullmatch(r"([a-z]+)_(\d+)_(\d+)_(\w+)", target.platform)
    assert asked
    if told is None or (told[1], told[4]) != (asked[1], asked[4]):
        return False
    return (int(told[2]), int(told[3])) <= (int(asked[2]), int(asked[3]))


def complaints(wheel: Path, target: Target) -> list[str]:
    """Return what is wrong with a wheel, one line each."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        libraries = [name for name in names if name.endswith(".so")]
        for name in libraries:
            found += [f"{name}: {wrong}" for wrong in _of_library(io.BytesIO(archive.read(name)), name, target)]
    suffixes = {".py", ".pyi", ".so", ".typed"}
    found += [
        f"{name} is no part of a wheel"
        for name in names
        if ".dist-info/" not in name and (Path(name).suffix not in suffixes or not name.startswith("uringloop/"))
    ]
    for needed in ("uringloop/py.typed", "/licenses/LICENSE"):
        if not any(name.endswith(needed) for name in names):
            found.append(f"it lacks {needed}")
    if len(libraries) < 2:
        found.append("it has no extensions")
    return found


def _of_library(file: io.BytesIO, name: str, target: Target) -> list[str]:
    elf = ELFFile(file)
    found = []
    if elf["e_machine"] != ELF_MACHINES[target.machine]:
        found.append(f"is of {elf['e_machine']}")
    if not name.endswith(f".{target.abi}.so"):
        found.append(f"is not named .{target.abi}.so")
    if elf.get_section_by_name(".debug_info") or elf.get_section_by_name(".symtab"):
        found.append("is not stripped")
    symbols = elf.get_section_by_name(".dynsym")
    assert isinstance(symbols, SymbolTableSection)
    undefined = {symbol.name for symbol in symbols.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF"}
    if target.libc.suffix == "musl":
        found += [f"calls {function}, which musl has not always had" for function in undefined & NEWER_IN_MUSL]
    return found
