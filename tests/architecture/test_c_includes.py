"""C includes point one way: the pool knows no ring, its core no engine, and no two files need each other."""

import graphlib
import re
import subprocess
from pathlib import Path

import pytest

from uringloop.ring.core import _cffi

from .sources import CORE, PACKAGE, c_files, cython_files, python_files, relative
from .test_core import compiler

#: Which other rooms a room's C may include.
BELOW = {"names": {"pool"}, "engine": {"ring/core"}, "ring/core": {"pool"}, "ring/core/epoll": {"ring/core", "pool"}}
POOL = PACKAGE / "pool"
#: These halves of one engine call each other.
ONE_ENGINE = {"stream.c", "stream_receive.c", "stream_send.c"}


def room(path: Path) -> str:
    """Return a file's folder, as from the package."""
    return path.relative_to(PACKAGE).parent.as_posix()


def included(path: Path) -> set[Path]:
    """Return the package's headers that a file includes."""
    names = re.findall(r'^#include "(.+)"$', path.read_text(), flags=re.M)
    found = {(path.parent / name).resolve() for name in names}
    assert all(header.exists() for header in found), f"{relative(path)} includes what is not there"
    return found


def check_no_circle(needed: dict[str, set[str]]) -> None:
    """Fail with the circle, if there is one."""
    try:
        graphlib.TopologicalSorter(needed).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", c_files(), ids=relative)
def test_includes_stay_in_the_room_or_point_down(path: Path) -> None:
    allowed = {room(path), "."} | BELOW.get(room(path), set())
    assert {room(header) for header in included(path)} <= allowed


def test_headers_include_each_other_in_no_circle() -> None:
    check_no_circle({relative(path): {relative(header) for header in included(path)} for path in c_files()})


def names_of_the_engine() -> set[str]:
    """Return the engine's header, and the names in it that the core's headers have not."""
    theirs = (PACKAGE / "engine" / "engine.h").read_text()
    ours = "".join((CORE / header).read_text() for header in ("abi.h", "core.h"))
    return {"engine.h", *re.findall(r"\b[Uu][Ll]_\w+", theirs)} - set(re.findall(r"\w+", ours))


def test_the_ring_names_no_engine() -> None:
    names = names_of_the_engine()
    assert {"ul_stream", "ul_stream_open", "UL_NAME_SIZE", "UL_GROUP_DATAGRAM", "UL_STREAM_DATA"} <= names
    sources = [*c_files(), *cython_files(), *python_files(), *PACKAGE.rglob("*.pyi")]
    in_ring = [path for path in sources if path.is_relative_to(PACKAGE / "ring")]
    found = {relative(path): names & set(re.findall(r"\b\w+(?:\.h\b)?", path.read_text())) for path in in_ring}
    found["the binding"] = names & {*dir(_cffi.lib), *(name for kind in _cffi.ffi.list_types() for name in kind)}
    assert {where: used for where, used in found.items() if used} == {}


SOURCES = [path for path in c_files() if path.suffix == ".c"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Compile each source; return the objects by source."""
    folder = tmp_path_factory.mktemp("objects")
    command = [compiler(), "-std=gnu11", "-fPIC", "-c", *map(str, SOURCES)]
    subprocess.run(command, check=True, cwd=folder)
    return {source: folder / f"{source.stem}.o" for source in SOURCES}


def functions(compiled: Path, kind: str) -> set[str]:
    """Return the names that an object defines ("T"), or needs of others ("U")."""
    listing = subprocess.run(["nm", str(compiled)], check=True, capture_output=True, text=True).stdout
    return set(re.findall(rf" {kind} (\w+)$", listing, flags=re.M))


def test_files_call_each_other_in_no_circle(objects: dict[Path, Path]) -> None:
    """But for the files of the stream engine, which count as one."""
    names = {source: "stream*.c" if source.name in ONE_ENGINE else source.name for source in SOURCES}
    home = {name: names[source] for source in SOURCES for name in functions(objects[source], "T")}
    needed: dict[str, set[str]] = {name: set() for name in names.values()}
    for source in SOURCES:
        called = functions(objects[source], "U") & home.keys()
        needed[names[source]] |= {home[name] for name in called} - {names[source]}
    check_no_circle(needed)


@pytest.mark.parametrize("rooms", [[POOL], [POOL, CORE, CORE / "epoll"]], ids=["pool", "pool and ring"])
def test_links_without_the_rooms_above(objects: dict[Path, Path], rooms: list[Path], tmp_path: Path) -> None:
    linked = [str(compiled) for source, compiled in objects.items() if source.parent in rooms]
    command = [compiler(), "-shared", "-Wl,-z,defs", "-o", str(tmp_path / "core.so"), *linked]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
