"""`install`: put these streams in the place of asyncio's names, for code that cannot be edited."""

import asyncio
from asyncio import streams
from typing import Any

from ..hooks import StreamReaderOfAsyncio, StreamWriterOfAsyncio
from . import classes

_NAMES = (
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
)

#: (module or class, name, the value before).
_replaced: list[tuple[Any, str, Any]] = []


def install() -> None:
    """Replace the names in `asyncio` and `asyncio.streams`, for all loops of the process.

    asyncio's own functions make our streams from then on, also where code imported them before; so do subprocesses.
    Classes that code imported before stay asyncio's.
    """
    if _replaced:
        return
    # asyncio's writer looks its reader's class up by a name that is ours now.
    constructor = classes.over(
        StreamWriterOfAsyncio.__init__,
        {**vars(streams), "StreamReader": StreamReaderOfAsyncio},
        StreamWriterOfAsyncio.__module__,
    )
    wanted: list[tuple[Any, str, Any]] = [
        (module, name, getattr(classes, name)) for module in (asyncio, streams) for name in _NAMES
    ]
    for owner, name, value in [*wanted, (StreamWriterOfAsyncio, "__init__", constructor)]:
        _replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)


def uninstall() -> None:
    """Undo `install`: the names are asyncio's again.  Streams that exist go on."""
    while _replaced:
        owner, name, value = _replaced.pop()
        setattr(owner, name, value)
