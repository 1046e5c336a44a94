"""Build the sdist, and from it a wheel for each Python, machine and C library, all on one machine.

setup.py runs under this Python for all of them, with Zig as the compiler.  A target differs by its compiler, headers,
suffix and tags.  setup.py finds these among sysconfig's variables, which CPython's own cross builds replace likewise.
"""

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import checks
import headers
import ziglang
from targets import HOME, ROOT, Target, targets

DIST = ROOT / "dist"
ZIG = Path(ziglang.__file__).with_name("zig")
#: -fno-sanitize: Zig would look for undefined behaviour, and stop the program at it.
FLAGS = "-DNDEBUG -O2 -g0 -fno-strict-overflow -fno-sanitize=undefined"


def run(command: list[str | Path], log: Path, **options: object) -> None:
    """Run a command with its output in a file, whose end is shown if the command fails."""
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, **options).returncode
    if code:
        print(*log.read_text().splitlines()[-30:], sep="\n", file=sys.stderr)
        raise SystemExit(f"that failed; all of its output is in {log}")


def build_sdist() -> Path:
    """Build the sdist from the files that git knows, as a clean clone has them, and return the folder of its files."""
    clone, unpacked = HOME / "clone", HOME / "sdist"
    for folder in (clone, unpacked):
        shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, clone]
    run(command, HOME / "sdist.log")
    with tarfile.open(max(DIST.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)) as archive:
        archive.extractall(unpacked, filter="data")
    return next(unpacked.iterdir())


def compiler(target: Target) -> str:
    return f"{ZIG} cc -target {target.zig}"


def musl(target: Target, folder: Path) -> Path:
    """Return a library without code, which has musl's functions, and the name by which Alpine has musl.

    Zig names musl libc.so, which a wheel may not need.  This library precedes Zig's, which is then needed no more.
    """
    assert target.soname
    library = folder / target.soname
    family = "x86" if target.machine == "x86_64" else target.machine
    which = ["-DPTR64", f"-DARCH_{target.machine}", f"-DFAMILY_{family}"]
    link = ["-shared", "-nostdlib", f"-Wl,-soname,{target.soname}"]
    source = ZIG.with_name("lib") / "libc/musl/libc.S"
    run([*compiler(target).split(), *which, *link, "-o", library, source], folder / "musl.log")
    return library


def sysconfig_of(target: Target, include: Path, folder: Path) -> dict[str, str | int]:
    """Return the variables of sysconfig that setuptools looks at, for the Python that a wheel is for."""
    call = compiler(target)
    link = f"{call} -shared -s" + (f" {musl(target, folder)}" if target.soname else "")
    without_gil = " -DPy_GIL_DISABLED=1" * target.free_threaded
    return {
        "AR": f"{ZIG} ar",
        "ARFLAGS": "rcs",
        "CC": call,
        "CCSHARED": "-fPIC",
        "CFLAGS": FLAGS + without_gil,
        "CXX": call,
        "CONFINCLUDEPY": str(include),
        "EXT_SUFFIX": f".{target.abi}.so",
        "GNULD": "yes",
        "INCLUDEPY": str(include),
        "LIBDIR": "/usr/local/lib",
        "LDCXXSHARED": link,
        "LDSHARED": link,
        "Py_ENABLE_SHARED": 0,
        "Py_GIL_DISABLED": int(target.free_threaded),
        "SHLIB_SUFFIX": ".so",
        "SIZEOF_VOID_P": 8,
        "SOABI": target.abi,
        "VERSION": target.python,
    }


def build_wheel(target: Target, sdist: Path) -> Path:
    """Build one wheel from the unpacked sdist, and check it.

    Raises:
        SystemExit: it cannot be built, or may not be published.
    """
    folder = HOME / "build" / target.tag
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    include = headers.find(target.python)
    variables = sysconfig_of(target, include, folder)
    headers.check(include, target, [*compiler(target).split(), *str(variables["CFLAGS"]).split()], folder)
    (folder / "_sysconfigdata_of_target.py").write_text(f"build_time_vars = {variables!r}\n")
    build = ["build", "--build-temp", folder / "temp", "--build-lib", folder / "lib"]
    bdist = ["bdist_wheel", "--bdist-dir", folder / "files", "--plat-name", target.platform]
    command = [sys.executable, "setup.py", "-q", *build, *bdist, "--dist-dir", folder]
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS", "LDFLAGS")}
    environment |= {
        "_PYTHON_SYSCONFIGDATA_NAME": "_sysconfigdata_of_target",
        "PYTHONPATH": str(folder),
        "CYTHON_CACHE_DIR": str(HOME / "cython"),
    }
    run(command, folder / "build.log", cwd=sdist, env=environment)
    wheel = next(folder.glob(f"*-{target.tag}.whl"))
    # Not `repair`: it knows this machine's platforms alone, and there is nothing to copy into a wheel.
    run([sys.executable, "-m", "auditwheel", "show", wheel], folder / "auditwheel.log")
    found = checks.complaints(wheel, target)
    if not checks.allows((folder / "auditwheel.log").read_text(), target):
        found.append(f"auditwheel does not allow its platform: {folder / 'auditwheel.log'}")
    if found:
        raise SystemExit("\n".join([f"{wheel.name}:", *found]))
    return Path(shutil.move(wheel, DIST / wheel.name))


def check_all() -> None:
    """Have check-wheel-contents and twine look at everything that was built."""
    made = sorted(DIST.iterdir())
    # The bindings of cffi have the same stub, which check-wheel-contents takes for a mistake (W002).
    contents = [sys.executable, "-m", "check_wheel_contents", "--ignore", "W002"]
    run([*contents, *DIST.glob("*.whl")], HOME / "check-wheel-contents.log")
    run([sys.executable, "-m", "twine", "check", "--strict", *made], HOME / "twine.log")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/wheels/run", description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the tags of all wheels, and build none")
    parser.add_argument(
        "only", nargs="*", help='patterns of tags, as "cp313-*-manylinux*": these are built anew; without any, all are'
    )
    arguments = parser.parse_args()
    chosen = [
        target
        for target in targets()
        if not arguments.only or any(fnmatch.fnmatch(target.tag, pattern) for pattern in arguments.only)
    ]
    if arguments.list:
        print(*(target.tag for target in chosen), sep="\n")
        return
    if not chosen:
        parser.error("no wheel has such a tag")
    if not arguments.only:
        shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir(exist_ok=True)
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = str(HOME / "zig")
    sdist = build_sdist()
    for target in chosen:
        began = time.monotonic()
        wheel = build_wheel(target, sdist)
        shutil.rmtree(HOME / "build" / target.tag / "temp")
        size_kib = wheel.stat().st_size // 1024
        print(f"{wheel.name}: {size_kib} KiB, in {time.monotonic() - began:.0f} s", flush=True)
    check_all()


if __name__ == "__main__":
    main()
