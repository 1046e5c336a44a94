"""The states of a connection, in one table.

    OPEN ---> CLOSING ---> CLOSED

OPEN carries bytes both ways.  CLOSING delivers no more to the protocol: what is queued is being sent or was dropped,
and the kernel may still hold the socket.  CLOSED: `connection_lost` was called and the socket is closed.
"""

import enum


class Connection(enum.Enum):
    """Where a connection is between `connection_made` and `connection_lost`."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_NEXT = {
    Connection.OPEN: {Connection.CLOSING},
    Connection.CLOSING: {Connection.CLOSED},
    Connection.CLOSED: set(),
}


def advance(state: Connection, to: Connection) -> Connection:
    """The next state.

    Raises:
        RuntimeError: the table has no such step.
    """
    if to not in _NEXT[state]:
        raise RuntimeError(f"a connection cannot go from {state.value} to {to.value}")
    return to
