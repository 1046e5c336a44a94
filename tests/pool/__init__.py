"""The pool of threads, driven by jobs in C that a test begins, holds and ends."""
