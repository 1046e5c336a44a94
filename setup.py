"""What pyproject.toml cannot say: the extensions, two of them over the one C core."""

import runpy
from pathlib import Path

from setuptools import Extension, setup

# The package itself cannot be imported before it is built.
core = runpy.run_path("uringloop/ring/build.py")
halves = [
    "uringloop/patched.pxd",
    "uringloop/tick.pxd",
    "uringloop/ring/hot.pxd",
    *(str(path) for path in sorted(Path("uringloop/ring").glob("hot_*.pxi"))),
]
options = {**core["OPTIONS"], "depends": [*core["HEADERS"], *halves]}

setup(
    cffi_modules=["uringloop/ring/build.py:ffibuilder"],
    ext_modules=[
        Extension(
            "uringloop.scheduler",
            ["uringloop/scheduler.pyx"],
            depends=[
                "uringloop/patched.pxd",
                "uringloop/tick.pxd",
                "uringloop/scheduler_handles.pxi",
                "uringloop/scheduler_timers.pxi",
            ],
            extra_compile_args=["-O2"],
        ),
        Extension(
            "uringloop.files.hot",
            ["uringloop/files/hot.pyx"],
            depends=["uringloop/files/hot_call.pxi", "uringloop/files/hot_buffer.pxi"],
            extra_compile_args=["-O2"],
        ),
        Extension("uringloop.ring.hot", ["uringloop/ring/hot.pyx", *core["SOURCES"]], **options),
    ],
)
