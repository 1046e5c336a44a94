"""What pyproject.toml cannot say: the library of the C core, and the extensions, which share it."""

import sysconfig
from pathlib import Path

from Cython.Distutils import build_ext
from setuptools import Extension, setup

PACKAGE = Path("uringloop")
CORE = "uringloop.liburingloop"
#: One for each Python, so that several may build one checkout.
CORE_FILE = f"liburingloop{sysconfig.get_config_var('EXT_SUFFIX')}"
#: Which extensions call the core.
LINKED = {"uringloop.ring.core._cffi", "uringloop.ring.dispatcher"}
COMPILE = ["-std=gnu11", "-O2"]


class BuildExtensions(build_ext):
    """Builds the core's library first, and has the extensions find it where it stands in the package."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(PACKAGE / CORE_FILE) if fullname == CORE else super().get_ext_filename(fullname)

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extensions(self) -> None:
        core = next(extension for extension in self.extensions if extension.name == CORE)
        self.extensions.remove(core)
        self.check_extensions_list([core])
        self.build_extension(core)
        built = self.get_ext_fullpath(CORE)
        for extension in self.extensions:
            if extension.name in LINKED:
                extension.extra_objects.append(built)
                extension.depends.append(built)
                up = "/".join([".."] * (extension.name.count(".") - 1))
                extension.runtime_library_dirs.append(f"$ORIGIN/{up}")
        super().build_extensions()
        self.extensions.insert(0, core)


def files(*patterns: str) -> list[str]:
    """Return the package's files that match, in order."""
    return sorted(str(path) for pattern in patterns for path in PACKAGE.glob(pattern))


HEADERS = files("ring/core/*.h", "engine/*.h")

setup(
    cmdclass={"build_ext": BuildExtensions},
    cffi_modules=[f"tools/bindings.py:{name}" for name in ("ring", "children", "selector")],
    ext_modules=[
        Extension(
            CORE,
            files("ring/core/*.c", "engine/*.c"),
            depends=HEADERS,
            extra_compile_args=COMPILE,
            extra_link_args=[f"-Wl,-soname,{CORE_FILE}"],
        ),
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
            "uringloop.files.layers.hot",
            ["uringloop/files/layers/hot.pyx"],
            depends=["uringloop/files/layers/hot_call.pxi", "uringloop/files/layers/hot_buffer.pxi"],
            extra_compile_args=["-O2"],
        ),
        Extension(
            "uringloop.ring.dispatcher",
            ["uringloop/ring/dispatcher.pyx", "uringloop/files/cached.c"],
            include_dirs=["uringloop"],
            depends=[*HEADERS, *files("**/*.pxd", "ring/*.pxi", "engine/*.pxi", "files/cached.*")],
            extra_compile_args=COMPILE,
        ),
    ],
)
