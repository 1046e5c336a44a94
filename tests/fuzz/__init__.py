"""Random use of the core, seeded: `python -m tests.fuzz --help`.

What goes wrong shows as a crash, a hang, a report of AddressSanitizer (`tools/asan -m tests.fuzz --seconds 600`), or
as bytes that are not those that were sent.
"""
