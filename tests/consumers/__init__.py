"""Consumers: libraries of docs/libraries.md, each started by its own documented switch and put under some load.

They need many packages, in the versions of `requirements.txt`, so `make test-consumers` gives them a venv of their own
and no other run collects them.  `rows.py` lists the rows of the page's table, `table.py` writes it.  Rows whose tests
stand in `tests/compat/libraries` take them from there.
"""

#: Set where these tests run.
VARIABLE = "URINGLOOP_TEST_CONSUMERS"
