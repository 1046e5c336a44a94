"""asyncio's streams, compiled: the same API, and subclasses of asyncio's classes.

    from uringloop.streams import open_connection, start_server

On uringloop's loops the engine feeds the readers without any Python.  On other loops the streams work as asyncio's do.
`install()` puts them in the place of asyncio's names, for code that cannot be edited.
"""

from ..immortal import share
from .classes import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from .replacing import install, uninstall

__all__ = [
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "install",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
    "uninstall",
]

share(__name__)
