"""What pyproject.toml cannot say: the library of the C core, and the extensions, which share it."""

import os
import re
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from Cython.Build.Dependencies import create_dependency_tree
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("uringloop")
CORE = "uringloop.liburingloop"
#: One for each Python, so that several may build one checkout.
CORE_FILE = f"liburingloop{sysconfig.get_config_var('EXT_SUFFIX')}"
#: Of the Python that is built for: tools/wheels builds for others than this.
VERSION = tuple(map(int, sysconfig.get_config_var("VERSION").split(".")))
#: gcc refuses these from version 14 on; Cython's C is compiled with them.
STRICT = ["incompatible-pointer-types", "int-conversion", "implicit-function-declaration"]
#: A builder's own level of optimization stands in CFLAGS, which these options follow.
OPTIMIZE = [] if re.search(r"(^| )-O", os.environ.get("CFLAGS", "")) else ["-O2"]
COMPILE = ["-std=gnu11", *OPTIMIZE, *(f"-Werror={name}" for name in STRICT)]
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    # Each object of a module is of one loop, of one thread, unchanged after the import, or locked: see docs/cores.md.
    # Before 3.14 asyncio itself is not ready.
    "freethreading_compatible": VERSION >= (3, 14),
}
#: Which extensions call the core: its bindings, and the modules that `module` adds.
LINKED = {"uringloop.ring.core._cffi", "uringloop.pool._cffi"}
#: What an extension is made of beside its Cython module.
BESIDE = {
    "uringloop.files.layers.cached": ["uringloop/files/layers/cached.c"],
    "uringloop.sendfile.sender": ["uringloop/sendfile/page_cache.c"],
    "uringloop.selector.registry": ["uringloop/selector/epoll.c"],
    "uringloop.tls.session": ["uringloop/tls/openssl.c"],
}


class BuildExtensions(build_ext):
    """Builds the core's library first, and has the extensions find it where it stands in the package."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

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
        # Beside the modules their C would bear the names of the core's files.
        folder = f"{self.build_temp}/cython"
        options = {"compiler_directives": DIRECTIVES, "build_dir": folder, "nthreads": self.parallel, "quiet": True}
        options["cache"] = "CYTHON_CACHE_DIR" in os.environ
        sources = {made.name: made.sources for made in cythonize(self.extensions, **options)}
        for extension in self.extensions:
            # Not before: Cython copies what an extension depends on into the folder, where its own C is to be.
            beside = BESIDE.get(extension.name, [])
            extension.sources = sources[extension.name] + beside
            extension.depends += beside
        super().build_extensions()
        self.extensions.insert(0, core)


def files(*patterns: str) -> list[str]:
    """Return the package's files that match, in order."""
    return sorted(str(path) for pattern in patterns for path in PACKAGE.glob(pattern))


def module(path: str) -> Extension:
    """Return the extension of a Cython module.

    It is linked to the core if it has the core's declarations, and depends on the headers if it, or anything that it
    has by cimport, includes one.
    """
    name = path.removesuffix(".pyx").replace("/", ".")
    if re.search(r"\bcore cimport\b", Path(path).read_text()):
        LINKED.add(name)
    sources = [Path(source).read_text() for source in create_dependency_tree().all_dependencies(path)]
    includes = any(header.removeprefix("uringloop/") in source for source in sources for header in HEADERS)
    return Extension(
        name,
        [path],
        include_dirs=["uringloop"],
        depends=[*HEADERS] if includes else [],
        extra_compile_args=COMPILE,
    )


HEADERS = files("**/*.h")

if __name__ == "__main__":  # not in the processes that run Cython in parallel
    setup(
        cmdclass={"build_ext": BuildExtensions},
        cffi_modules=[f"tools/bindings.py:{name}" for name in ("ring", "pool", "children")],
        ext_modules=[
            Extension(
                CORE,
                files("pool/*.c", "names/*.c", "ring/core/*.c", "ring/core/epoll/*.c", "engine/*.c"),
                depends=HEADERS,
                extra_compile_args=COMPILE,
                # A thread of the pool may run its code until the process ends.
                extra_link_args=[f"-Wl,-soname,{CORE_FILE}", "-Wl,-z,nodelete"],
            ),
            *map(module, files("**/*.pyx")),
        ],
    )
