"""A profile by `python -m uringloop seccomp`, as a real filter: io_uring is refused before, and allowed after."""

import json
import os
from typing import Any

import pytest

from tests.children import script
from tests.kernel import needs
from uringloop.operations import MakeSocket
from uringloop.seccomp import allow_io_uring

from .seccomp import _ARCHITECTURES

pytestmark = pytest.mark.skipif(os.uname().machine not in _ARCHITECTURES, reason="no seccomp filter for this machine")

FILES_AND_EVENTS = {"names": ["eventfd2", "openat", "read"], "action": "SCMP_ACT_ALLOW"}
ALL_OF_IO_URING = ["io_uring_enter", "io_uring_register", "io_uring_setup"]

#: Profiles that refuse io_uring or a part of it, and the answer to a ring by hand.
PROFILES: dict[str, tuple[dict[str, Any], str]] = {
    "as Docker": (
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [FILES_AND_EVENTS]},
        "EPERM",
    ),
    "as Podman": (
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [FILES_AND_EVENTS]},
        "ENOSYS",
    ),
    "by a rule": (
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapon", *ALL_OF_IO_URING], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
        },
        "EACCES",
    ),
    "for all but root": (
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                FILES_AND_EVENTS,
                {"names": ALL_OF_IO_URING, "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            ],
        },
        "EPERM",
    ),
    "eventfd2 alone": (
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ALL_OF_IO_URING, "action": "SCMP_ACT_ALLOW"}]},
        "usable by hand",
    ),
}

ASKING = """
import errno, json, sys
import uringloop, uringloop.ring
from tests.refused.seccomp import obey

obey(json.loads(sys.argv[1]))
try:
    with uringloop.ring.Ring():
        print("usable by hand")
except uringloop.RingUnavailableError as error:
    print(errno.errorcode[error.errno])
print(uringloop.is_available())
"""


@pytest.mark.parametrize("kind", PROFILES)
@needs("io_uring")
def test_refused_before_and_allowed_after(kind: str) -> None:
    profile, answer = PROFILES[kind]
    before = json.dumps(profile)
    after, changes = allow_io_uring(before)
    assert changes
    assert script(ASKING, before) == f"{answer}\nFalse\n"
    assert script(ASKING, after) == "usable by hand\nTrue\n"


@needs(MakeSocket)
@needs("io_uring")
def test_a_filter_does_not_see_operations() -> None:
    """The warning in docs/containers.md is right: the filter refuses socket(2), and io_uring makes a socket."""
    answer = script("""
        import asyncio, errno, os, socket, stat, uringloop
        from tests.refused import seccomp
        from uringloop.operations import MakeSocket

        async def main():
            loop = asyncio.get_running_loop()
            return await loop.submit(MakeSocket(socket.AF_INET, socket.SOCK_STREAM))

        seccomp.refuse(errno.EPERM, seccomp.SOCKET)
        try:
            socket.socket()
        except PermissionError:
            print("refused")
        fd = uringloop.run(main())
        print(stat.S_ISSOCK(os.fstat(fd).st_mode))
    """)
    assert answer == "refused\nTrue\n"
