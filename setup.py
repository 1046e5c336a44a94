"""What pyproject.toml cannot say: the extensions, two of them over the one C core."""

import runpy

from setuptools import Extension, setup

# The package itself cannot be imported before it is built.
core = runpy.run_path("uringloop/ring/build.py")
halves = [
    f"uringloop/ring/{name}"
    for name in ("hot.pxd", "hot_stream.pxi", "hot_datagram.pxi", "hot_file.pxi", "hot_ring.pxi")
]
options = {**core["OPTIONS"], "depends": [*core["HEADERS"], *halves]}

setup(
    cffi_modules=["uringloop/ring/build.py:ffibuilder"],
    ext_modules=[
        Extension("uringloop.scheduler", ["uringloop/scheduler.pyx"], extra_compile_args=["-O2"]),
        Extension("uringloop.files.decoded", ["uringloop/files/decoded.pyx"], extra_compile_args=["-O2"]),
        Extension("uringloop.ring.hot", ["uringloop/ring/hot.pyx", *core["SOURCES"]], **options),
    ],
)
