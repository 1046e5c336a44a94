"""What pyproject.toml cannot say: the extensions, two of them over the one C core."""

from setuptools import Extension, setup

CORE = "uringloop/ring/_core"
SOURCES = ("ring.c", "slots.c", "buffers.c", "queue.c", "stream.c", "datagram.c", "watch.c", "file.c")

setup(
    cffi_modules=["uringloop/ring/build.py:ffibuilder"],
    ext_modules=[
        Extension("uringloop.scheduler", ["uringloop/scheduler.pyx"], extra_compile_args=["-O2"]),
        Extension("uringloop.files.hot", ["uringloop/files/hot.pyx"], extra_compile_args=["-O2"]),
        Extension(
            "uringloop.ring.hot",
            ["uringloop/ring/hot.pyx", *(f"{CORE}/{name}" for name in SOURCES)],
            include_dirs=[CORE],
            depends=[
                *(f"{CORE}/{name}" for name in ("abi.h", "core.h", "internal.h")),
                *(
                    f"uringloop/ring/{name}"
                    for name in ("hot.pxd", "hot_stream.pxi", "hot_datagram.pxi", "hot_file.pxi")
                ),
            ],
            extra_compile_args=["-std=gnu11", "-O2"],
        ),
    ],
)
