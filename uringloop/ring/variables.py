"""`variable`: an environment variable, read quickly where it is not set: a loop reads three when it is made."""

import os


def variable(name: str) -> str:
    """Return the value of an environment variable; an unset one is empty."""
    # To look one up that is not set, `os.environ` raises and catches two exceptions.
    known = getattr(os.environ, "_data", None)
    if known is not None and name.encode() not in known:
        return ""
    return os.environ.get(name, "")
