"""Children without close_range(2): before Linux 5.9, and in a sandbox that does not know it."""

import errno

import pytest

from tests.children import script


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("close_fds", [True, False])
def test_a_child_has_the_descriptors_that_it_was_given(error: int, close_fds: bool) -> None:
    source = """
        import asyncio, os, sys, uringloop
        from tests.refused.seccomp import refuse

        async def main():
            given, other = os.dup(0), os.dup(0)
            options = {"pass_fds": [given]} if close_fds else {"close_fds": False}
            os.set_inheritable(given, not close_fds)
            listing = "for fd in /proc/self/fd/*; do echo ${fd##*/}; done"
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", listing, stdin=-1, stdout=-1, **options)
            found = {int(fd) for fd in (await process.communicate())[0].split()}
            # The listing has a descriptor of its own, the lowest number that is free.
            print(found - {given} == {0, 1, 2, min({3, 4} - {given})})

        close_fds = sys.argv[2] == "True"
        CLOSE_RANGE = 436
        refuse(int(sys.argv[1]), CLOSE_RANGE)
        uringloop.run(main())
    """
    assert script(source, str(error), str(close_fds)) == "True\n"
