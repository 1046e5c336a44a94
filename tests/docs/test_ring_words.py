"""docs/ring.md's table from liburing's functions to ours: nothing in it is made up, and nothing is left out."""

import re
from pathlib import Path

import pytest

from uringloop import operations, ring

ROOT = Path(__file__).resolve().parents[2]
LIBURING = Path("/usr/include/liburing.h")
#: What only C needs, or what is the same function for C's sake.
NOT_FOR_PYTHON = re.compile(
    r"_(smp|enter|enter2|setup|register|mlock_size|mlock_size_params|queue_mmap|cqe_shift|cqe_index|free_probe)$"
    r"|_(get_cqe|register_probe|get_probe_ring|cq_eventfd_enabled|buf_ring_init|buf_ring_mask|smp_\w+)$"
    r"|_(prep_poll_mask|set_target_fixed_file|sqe_set_data64|cqe_get_data64|recvmsg_\w+|register_files_update_tag)$"
)


def rows() -> list[tuple[str, str]]:
    table = (ROOT / "docs" / "ring.md").read_text().partition("## liburing's words")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (io_uring_.*) \| (.*) \|$", table, flags=re.M)
    assert len(found) > 50
    return found


def test_what_is_ours_exists() -> None:
    for _, ours in rows():
        for name in re.findall(r"`([\w.]+)", ours):
            owner, _, attribute = name.partition(".")
            kind = getattr(ring, owner, None) or getattr(operations, owner)
            assert not attribute or hasattr(kind, attribute) or attribute in told_attributes(kind), name


def told_attributes(kind: type) -> str:
    """Return the docstrings of a class and of its bases, which list the attributes of its objects."""
    return "".join(each.__doc__ or "" for each in kind.__mro__)


def spelled_out(theirs: str) -> set[str]:
    """`io_uring_prep_send, _send_zc`: each name whole, and short ones also as the end of the first."""
    first, *others = theirs.split(", ")
    names = {first}
    for other in others:
        names |= {other} if other.startswith("io_uring") else {"io_uring_prep" + other, first + other}
    return names


def test_every_function_of_liburing_is_there() -> None:
    if not LIBURING.exists():
        pytest.skip("no liburing here")
    theirs = set(re.findall(r"\b(io_uring_\w+)\(", LIBURING.read_text()))
    told = set().union(*(spelled_out(row) for row, _ in rows()))
    left = {name for name in theirs - told if not NOT_FOR_PYTHON.search(name)}
    # A variant is told with what it is a variant of.
    assert {name for name in left if not re.search(r"_(direct|direct_alloc|at|tags|sparse)$", name)} == set()
