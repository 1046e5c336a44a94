"""Builds the cffi binding of the C core: one extension for every Python (abi3).

The declarations are core.h itself, without what a C compiler alone understands, so that there is nothing to keep in
step.
"""

import re
from pathlib import Path

from cffi import FFI

CORE = Path(__file__).resolve().parent / "_core"
SOURCES = ("ring.c", "slots.c", "buffers.c", "queue.c", "stream.c", "datagram.c", "watch.c", "spawn.c")


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
ffibuilder.set_source(
    "uringloop.ring._cffi",
    '#include "core.h"',
    sources=[f"uringloop/ring/_core/{name}" for name in SOURCES],
    include_dirs=["uringloop/ring/_core"],
    extra_compile_args=["-std=gnu11"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
