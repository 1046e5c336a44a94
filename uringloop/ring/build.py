"""Builds the cffi binding of the C core: one extension for every Python (abi3).

The declarations are core.h itself, without what a C compiler alone understands, so that there is nothing to keep in
step.  The hot half has the core too (setup.py reads here what it consists of), and both carry a number of the sources
that they were built from: the two work on one ring, so they must agree.
"""

import hashlib
import re
from pathlib import Path

from cffi import FFI

CORE = Path(__file__).resolve().parent / "_core"
_FILES = sorted(path.name for path in CORE.glob("*.[ch]"))
SOURCES = [f"uringloop/ring/_core/{name}" for name in _FILES if name.endswith(".c")]
HEADERS = [f"uringloop/ring/_core/{name}" for name in _FILES if name.endswith(".h")]
_DIGEST = hashlib.sha256(b"".join((CORE / name).read_bytes() for name in _FILES)).hexdigest()
#: What both extensions are compiled with.
OPTIONS = {
    "depends": HEADERS,
    "include_dirs": ["uringloop/ring/_core"],
    "define_macros": [("UL_BUILD", f"0x{_DIGEST[:16]}ULL")],
    "extra_compile_args": ["-std=gnu11", "-O2"],
}


def _declarations() -> str:
    """The structs, enums and functions of the headers, in the C that cffi parses."""
    text = (CORE / "abi.h").read_text() + (CORE / "core.h").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"_Static_assert\(.*?\);", "", text, flags=re.S)
    constants = re.findall(r"^#define ((?:IO|UL_)\w+) ", text, flags=re.M)
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    return text + "".join(f"#define {name} ...\n" for name in constants)


ffibuilder = FFI()
ffibuilder.cdef(_declarations())
ffibuilder.set_source("uringloop.ring._cffi", '#include "core.h"', sources=SOURCES, **OPTIONS)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
