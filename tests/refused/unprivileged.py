"""Another user, and limits, for children of a test: as root the kernel charges no memory and counts no processes."""

import os
import resource

#: Above those that a system gives away; each process is a user of its own, so that nobody else's rings count.
_FIRST_USER = 200_000


def become_nobody(*, memory_bytes: int | None = None, processes: int | None = None) -> None:
    """Become a user without privileges, for good.

    Args:
        memory_bytes: that rings may be charged (RLIMIT_MEMLOCK).
        processes: that the user may have, threads among them (RLIMIT_NPROC).
    """
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (memory_bytes, memory_bytes))
    if processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    user = _FIRST_USER + os.getpid() % 100_000
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
