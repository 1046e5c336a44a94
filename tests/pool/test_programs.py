"""Programs in C on the pool alone, also with sanitizers."""

import subprocess
from pathlib import Path

import pytest

from tests.architecture.test_core import compiler

from .jobs import HERE, PACKAGE

FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{PACKAGE}"]


def build(folder: Path, name: str, *arguments: str) -> str:
    """Compile a program with the pool's sources; return its path."""
    program = str(folder / name)
    sources = [HERE / f"{name}.c", *(PACKAGE / "pool").glob("*.c")]
    command = [compiler(), *FLAGS, *arguments, "-o", program, *map(str, sources)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


def run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("sanitizer", ["none", "thread", "address", "undefined"])
def test_each_job_runs_once_and_is_freed_once(tmp_path: Path, sanitizer: str) -> None:
    checks = [] if sanitizer == "none" else [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    try:
        program = build(tmp_path, "stress", *checks)
    except subprocess.CalledProcessError as error:
        if checks and "cannot find" in error.stderr:
            pytest.skip(f"the compiler has no -fsanitize={sanitizer}")
        raise
    run(program, "1", "200")


def test_a_child_forked_under_the_lock_has_a_pool(tmp_path: Path) -> None:
    run(build(tmp_path, "held_lock"))
