"""Other people's libraries on this loop: each is started as its own documentation says, and talks for real.

The tests do what docs/libraries.md says.  Servers run in processes of their own
(`processes.py`), on ports that the kernel chose, and are stopped by the signal that they document.  PostgreSQL and
Redis are the real ones, from Debian's packages, in a temporary folder (`databases.py`).

A library or a server that is not there skips the tests that need it, with its name; where `URINGLOOP_TEST_EVERYTHING`
is set, as `.ci/run` does, it fails them instead (`needs.py`).
"""
