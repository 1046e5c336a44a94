"""Runs aiofiles' own tests, from its source distribution, with `uringloop.files` standing in for it.

    python -m tests.compat.aiofiles --loop uringloop --sleep ring -v
    python -m tests.compat.aiofiles --control

The distribution of the installed aiofiles' version is fetched with pip and kept in .cache, outside of the repository.
The tests run in a copy of it, because they write among themselves.  `aiofiles_plugin.py` says how they get their loop
and what they get for aiofiles.

Exit status 0 means that every test passed, or was skipped by aiofiles or by the plugin's list; 1 that some did not;
2 that nothing could be run.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.compat.loops import BACKENDS, SLEEPS, LoopChoice
from tests.refused import seccomp

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / ".cache"
_FETCH_TIMEOUT_SECONDS = 300
_SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
addopts = -p tests.compat.aiofiles_plugin -p no:cacheprovider
"""

#: A plugin's fixture would not come before another plugin's of the same name.
_CONFTEST = "from tests.compat.aiofiles_plugin import unused_tcp_port\n"

CONTROL_VARIABLE = "URINGLOOP_COMPAT_CONTROL"


class UnavailableError(Exception):
    """aiofiles' source distribution is not here and cannot be fetched."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    if options.refuse:
        seccomp.refuse(errno.EPERM, seccomp.SETUP, seccomp.ENTER, seccomp.REGISTER)
    try:
        tests = fetch_tests()
    except UnavailableError as error:
        print(f"cannot run aiofiles' tests: {error}", file=sys.stderr)
        return 2
    LoopChoice(options.loop, options.sleep, options.backend).to_environment()
    os.environ[CONTROL_VARIABLE] = str(int(options.control))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(tests, Path(folder, "tests"))
        Path(folder, "pytest.ini").write_text(_SETTINGS)
        Path(folder, "conftest.py").write_text(_CONFTEST)
        chosen = [word for pattern in options.patterns for word in ("-k", pattern)]
        loudness = "-v" if options.verbose else "-q"
        command = [sys.executable, "-m", "pytest", loudness, "-ra", "--timeout", str(options.timeout), *chosen, "tests"]
        # One run at a time on this machine: a test of aiofiles listens on a port that is written in it.
        with _alone(Path(tempfile.gettempdir(), "uringloop-compat-aiofiles.lock")):
            finished = subprocess.run(command, cwd=folder, check=False)
    return min(finished.returncode, 2)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.aiofiles", description=__doc__.partition("\n")[0])
    parser.add_argument("--control", action="store_true", help="aiofiles itself, on the same loop")
    parser.add_argument("--loop", default="uringloop", help="asyncio, uvloop, uringloop or MODULE:CALLABLE")
    parser.add_argument("--sleep", default="auto", choices=SLEEPS, help="where uringloop sleeps")
    parser.add_argument("--backend", default="auto", choices=BACKENDS, help="what carries its operations")
    parser.add_argument("--refuse", action="store_true", help="refuse io_uring, as container runtimes do")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds that one test may take")
    parser.add_argument("-k", dest="patterns", action="append", default=[], help="as pytest's")
    parser.add_argument("-v", "--verbose", action="store_true", help="name each test")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _alone(lock_path: Path) -> Iterator[None]:
    """Hold the lock on a file, which other processes wait for."""
    with lock_path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch_tests() -> Path:
    """Return the folder of aiofiles' tests; fetch it, in one process at a time, if it is not in the cache.

    Raises:
        UnavailableError: pip cannot fetch it.
    """
    version = importlib.metadata.version("aiofiles")
    tests = _CACHE / f"aiofiles-{version}" / "tests"
    _CACHE.mkdir(exist_ok=True)
    with _alone(_CACHE / "aiofiles.lock"):
        if not tests.is_dir():
            _fetch(version, tests.parent)
    return tests


def _fetch(version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", scratch]
        try:
            subprocess.run(
                [*pip, f"aiofiles=={version}"],
                check=True,
                capture_output=True,
                text=True,
                timeout=_FETCH_TIMEOUT_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            raise UnavailableError(error.stderr.strip().splitlines()[-1]) from None
        except subprocess.TimeoutExpired:
            raise UnavailableError("pip download takes too long") from None
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        # At once, so that a copy that was interrupted is not taken for whole.
        Path(scratch, f"aiofiles-{version}").rename(folder)


if __name__ == "__main__":
    sys.exit(main())
