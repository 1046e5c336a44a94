"""The choice of a backend: io_uring where it works, epoll(7) where it is refused, or the one that was asked for.

Two loggings of one answer would tell nothing new.  So the log "uringloop" has a line for the first loop, and for each
later one whose backend or reason differs from the last line's.
"""

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar, cast

from .errors import RingUnavailableError
from .setup import BACKENDS, Backend
from .variables import variable

BACKEND_VARIABLE = "URINGLOOP_BACKEND"
#: The choices; "auto" is the one that the variable makes, by default io_uring if it works and else epoll.
BackendChoice = Literal["auto", "io_uring", "epoll"]

_CHOICES = ("auto", *BACKENDS)
_log = logging.getLogger("uringloop")
_told = ""


class Choice(NamedTuple):
    """A choice of a backend, and who made it."""

    asked: BackendChoice
    reason: str


_BY_PROGRAM = {choice: Choice(choice, f'the program asks for it, with backend="{choice}"') for choice in BACKENDS}
_BY_NOBODY = Choice("auto", "neither the program nor the variable asks for a backend")
#: The backend that each choice led to last, and the reason.
_settled: dict[Choice, tuple[Backend, str]] = {}

_T = TypeVar("_T")


def check_choice(choice: str) -> None:
    """Refuse an unknown choice.

    Raises:
        ValueError: the choice is neither "auto" nor a backend.
    """
    if choice not in _CHOICES:
        raise ValueError(f"backend must be one of {_CHOICES}, not {choice!r}")


def resolve(choice: BackendChoice) -> Choice:
    """Return the choice, where "auto" gives way to the variable URINGLOOP_BACKEND, and who made it.

    Raises:
        ValueError: the variable has an unknown value.
    """
    if choice != "auto":
        return _BY_PROGRAM[choice]
    value = variable(BACKEND_VARIABLE) or "auto"
    if value == "auto":
        return _BY_NOBODY
    if value not in _CHOICES:
        raise ValueError(f"the variable {BACKEND_VARIABLE} must be one of {_CHOICES}, not {value!r}")
    return Choice(cast(BackendChoice, value), f"{BACKEND_VARIABLE}={value} asks for it")


def expected(choice: Choice) -> Backend | None:
    """Return the backend that this choice led to last, and log it as if it did now; None before the first time."""
    settled = _settled.get(choice)
    if settled is None:
        return None
    _tell(*settled)
    return settled[0]


def open_chosen(choice: Choice, open_on: Callable[[Backend], _T]) -> _T:
    """Open a ring, with all that it needs, on the chosen backend; on epoll if io_uring is refused and need not be.

    Args:
        choice: the backend.
        open_on: a function of the backend, which leaves nothing open if it is refused.

    Returns:
        The result of open_on.

    Raises:
        RingUnavailableError: io_uring was asked for, and is refused.
        OSError: epoll(7) was refused, as for want of descriptors.
    """
    asked, reason = choice
    if asked != "auto":
        opened = open_on(asked)
        return _settle(choice, asked, reason, opened)
    try:
        opened = open_on("io_uring")
    except RingUnavailableError as error:
        reason = str(error)
    else:
        return _settle(choice, "io_uring", "it works here", opened)
    return _settle(choice, "epoll", reason, open_on("epoll"))


def _settle(choice: Choice, backend: Backend, reason: str, opened: _T) -> _T:
    _settled[choice] = backend, reason
    _tell(backend, reason)
    return opened


def _tell(backend: Backend, reason: str) -> None:
    global _told
    if not _log.isEnabledFor(logging.INFO):
        return
    line = f"the backend is {backend}: {reason}"
    if line != _told:
        _told = line
        _log.info("%s", line)
