"""The classes, each of a compiled half and asyncio's class, and asyncio's functions over them.

What a class does rarely is asyncio's own code, so it is as this Python's asyncio has it.  Functions of asyncio that
make streams run here with our classes in the place of asyncio's.
"""

from asyncio import streams
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

from ..engine.stream_reader import FedProtocol
from ..hooks import StreamReaderOfAsyncio, StreamReaderProtocolOfAsyncio, StreamWriterOfAsyncio
from .calls import ReaderBase, WriterBase

F = TypeVar("F", bound=Callable[..., Any])

#: The names that asyncio's functions find; those of our classes follow below.
_names = dict(vars(streams))


def over(function: F, names: dict[str, Any] = _names, module: str = __package__) -> F:
    """Return a copy of a function of asyncio's streams that finds other classes by their names."""
    original = cast(FunctionType, function)
    made = FunctionType(original.__code__, names, original.__name__, original.__defaults__, original.__closure__)
    made.__kwdefaults__, made.__annotations__ = original.__kwdefaults__, original.__annotations__
    made.__doc__, made.__qualname__, made.__module__ = original.__doc__, original.__qualname__, module
    return cast(F, made)


class StreamReader(ReaderBase, StreamReaderOfAsyncio):
    """See `asyncio.StreamReader`."""

    __slots__ = ()


class StreamReaderProtocol(FedProtocol, StreamReaderProtocolOfAsyncio):
    """See `asyncio.StreamReaderProtocol`."""

    connection_made = over(StreamReaderProtocolOfAsyncio.connection_made)


class StreamWriter(WriterBase, StreamWriterOfAsyncio):
    """See `asyncio.StreamWriter`."""

    __slots__ = ()


for made in (StreamReader, StreamReaderProtocol, StreamWriter):
    made.__module__ = __package__
_names.update(StreamReader=StreamReader, StreamReaderProtocol=StreamReaderProtocol, StreamWriter=StreamWriter)

open_connection = over(streams.open_connection)
start_server = over(streams.start_server)
open_unix_connection = over(streams.open_unix_connection)
start_unix_server = over(streams.start_unix_server)
