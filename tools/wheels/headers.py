"""The headers of each Python: of an interpreter that is here, or from Debian's packages.

A Python's headers are the same for each machine and C library, but for pyconfig.h.  That differs in nothing that an
extension sees, and `check` has the compiler confirm it for each target.  A Python without the GIL has the headers of
the same version with it, and Py_GIL_DISABLED.
"""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from targets import HOME, ROOT, Target

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: Types whose sizes pyconfig.h tells.
SIZES = {
    "SHORT": "short",
    "INT": "int",
    "LONG": "long",
    "LONG_LONG": "long long",
    "SIZE_T": "size_t",
    "VOID_P": "void *",
    "WCHAR_T": "wchar_t",
    "OFF_T": "off_t",
    "TIME_T": "time_t",
    "PID_T": "pid_t",
    "PTHREAD_T": "pthread_t",
    "FLOAT": "float",
    "DOUBLE": "double",
    "LONG_DOUBLE": "long double",
}


def find(python: str) -> Path:
    """Return the folder of Python.h.

    Args:
        python: the version, as 3.14.

    Raises:
        SystemExit: neither an interpreter nor Debian sid has that version.
    """
    return _installed().get(python) or _from_debian(python)


@cache
def _installed() -> dict[str, Path]:
    """Return the folders of the interpreters that tools/pythons finds, by version."""
    lines = subprocess.run([ROOT / "tools/pythons"], capture_output=True, text=True, check=False).stdout.splitlines()
    program = "import sysconfig; print(sysconfig.get_path('include'))"
    found = {}
    for version, path in (line.split(" ", 1) for line in lines):
        found[version] = Path(subprocess.check_output([path, "-c", program], text=True).strip())
    return found


def _from_debian(python: str) -> Path:
    """Return a folder that has the headers of sid's libpython3.X-dev, fetched once.

    The index of sid has a folder of its own, so that the machine's list of sources stays as it is.
    """
    folder = HOME / "headers" / python
    if (folder / "Python.h").exists():
        return folder
    apt = HOME / "apt"
    for name in ("parts", "lists/partial", "cache/archives/partial", "packages"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "parts/sid.sources").write_text(
        f"Types: deb\nURIs: {MIRROR}\nSuites: sid\nComponents: main\nSigned-By: {KEYRING}\nArchitectures: amd64\n"
    )
    options = ["Dir::Etc::SourceList=/dev/null", f"Dir::Etc::SourceParts={apt}/parts", f"Dir::State::Lists={apt}/lists"]
    options += [f"Dir::Cache={apt}/cache", "APT::Architecture=amd64", "APT::Sandbox::User=root"]
    get = ["apt-get", "-qq", *(f"-o{option}" for option in options)]
    package = f"libpython{python}-dev"
    try:
        subprocess.run([*get, "update"], check=True)
        subprocess.run([*get, "download", package], check=True, cwd=apt / "packages")
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"no headers of Python {python}: no interpreter has them, and {error}") from error
    archive = next((apt / "packages").glob(f"{package}_*.deb"))
    subprocess.run(["dpkg-deb", "--extract", archive, apt / "packages" / python], check=True)
    include = apt / "packages" / python / "usr/include"
    shutil.copytree(include / f"python{python}", folder, dirs_exist_ok=True)
    # Debian's pyconfig.h includes that of the machine, from beside the other headers.
    shutil.copy(include / f"x86_64-linux-gnu/python{python}/pyconfig.h", folder)
    return folder


def check(headers: Path, target: Target, compiler: list[str], folder: Path) -> None:
    """Compile asserts that these headers fit the target, in a folder for temporary files.

    Raises:
        subprocess.CalledProcessError: they do not; the compiler has said where.
    """
    version = 0x03000000 | int(target.python.split(".")[1]) << 16
    asserted = [f"sizeof({name}) == SIZEOF_{constant}" for constant, name in SIZES.items()]
    asserted += [f"(PY_VERSION_HEX & 0xFFFF0000) == {version:#x}"]
    program = "#include <Python.h>\n#include <pthread.h>\n"
    program += "".join(f'_Static_assert({condition}, "{target.tag}");\n' for condition in asserted)
    program += f"#if {'!' * target.free_threaded}defined(Py_GIL_DISABLED)\n#error about the GIL\n#endif\n"
    source = folder / "headers.c"
    source.write_text(program)
    subprocess.run([*compiler, f"-I{headers}", "-c", source, "-o", source.with_suffix(".o")], check=True)
