"""The cffi bindings of the C that runs less than once a message: of the ring's core, the pool, children.

The declarations are the headers themselves, without what a C compiler alone understands, so that there is nothing to
keep in step.  setup.py links the bindings of the ring and of the pool with the one library of the core.
"""

import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
COMPILE = ["-std=gnu11", "-O2"]


def _binding(module: str, headers: list[str], sources: list[str]) -> FFI:
    """Return what builds a module, for this Python alone, from the structs, enums and functions of headers."""
    text = "".join((ROOT / "uringloop" / header).read_text() for header in headers)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"_Static_assert\(.*?\);", "", text, flags=re.S)
    constants = re.findall(r"^#define ((?:IO|UL_)\w+) ", text, flags=re.M)
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    builder = FFI()
    builder.cdef(text + "".join(f"#define {name} ...\n" for name in constants))
    builder.set_source(
        module,
        f'#include "{headers[-1]}"',
        sources=[f"uringloop/{source}" for source in sources],
        include_dirs=["uringloop"],
        depends=[f"uringloop/{header}" for header in headers],
        extra_compile_args=COMPILE,
        py_limited_api=False,
    )
    return builder


ring = _binding("uringloop.ring.core._cffi", ["ring/core/abi.h", "ring/core/core.h"], [])
pool = _binding("uringloop.pool._cffi", ["pool/pool.h"], [])
children = _binding("uringloop.children._cffi", ["children/spawn.h"], ["children/spawn.c", "children/spawn_child.c"])
