"""`ring_for`: whether a call with paths goes through the ring; and `stat`, which `os` and `ospath` use."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, TypeGuard

from ..companion import Submitter, submitter
from ..operations.path import Path, Stat
from ..ring import Opcode
from .wrapping import wrap

Loop = asyncio.AbstractEventLoop | None

_DESCRIPTOR_MAX = (1 << 31) - 1


def ring_for(loop: Loop, opcode: Opcode, paths: Sequence[Any], folders: Sequence[Any]) -> Submitter | None:
    """Return the ring for an operation on paths.

    Args:
        loop: an event loop, None for the running one.
        opcode: of the operation.
        paths: the call's paths.
        folders: the call's descriptors of folders that the paths are relative to, or None.

    Returns:
        The ring.  None if `os` has to do the call: there is no ring, the kernel has no such operation, or `os` has to
        judge the arguments.
    """
    ring = submitter(loop or asyncio.get_running_loop())
    if ring is None or opcode not in ring.opcodes:
        return None
    usual = all(map(_is_usual_path, paths)) and all(folder is None or is_descriptor(folder) for folder in folders)
    return ring if usual else None


def is_descriptor(value: Any) -> TypeGuard[int]:
    """Return whether a descriptor may have this number; a negative one would mean the working directory."""
    return type(value) is int and 0 <= value <= _DESCRIPTOR_MAX


def _is_usual_path(path: Any) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except (TypeError, UnicodeEncodeError):
        return False


async def stat(
    path: Path | int,
    *,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
    loop: Loop = None,
    executor: Executor | None = None,
) -> os.stat_result:
    """Return the status of a path or descriptor; see `os.stat`."""
    is_open = is_descriptor(path) and dir_fd is None and follow_symlinks
    ring = ring_for(loop, Opcode.STATX, () if is_open else (path,), (dir_fd,))
    if ring is None:
        return await wrap(os.stat)(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks, loop=loop, executor=executor)
    result: os.stat_result = await ring.submit(Stat(path, dir_fd, follow_symlinks))
    return result
