"""Chooses the TLS protocol of a connection, and makes it.

The protocol is `TlsProtocol`, or asyncio's in these cases:

- The environment variable `URINGLOOP_TLS` is `asyncio`.
- OpenSSL's functions are not found, or a check of them fails (`session.why_not`).
- A tool has replaced a part of asyncio's protocol, and expects to be called.
- The context makes `SSLObject`s of another class, or calls for each message; `_ssl` raises that callback's exceptions.
"""

import asyncio
import functools
import os
import types
from typing import TYPE_CHECKING, Any

from .. import hooks

if TYPE_CHECKING:
    from ssl import SSLContext

VARIABLE = "URINGLOOP_TLS"
_CHOICES = ("", "openssl", "asyncio")


def why_asyncio() -> str:
    """Return why TLS connections have asyncio's protocol, an empty string where they have this package's.

    Raises:
        ValueError: the environment variable has an unknown value.
    """
    choice = os.environ.get(VARIABLE, "")
    if choice not in _CHOICES:
        raise ValueError(f"{VARIABLE} must be openssl or asyncio, not {choice!r}")
    if hooks.ssl is None:
        return "this Python has no module ssl"
    if choice == "asyncio":
        return f"{VARIABLE} is asyncio"
    if not hooks.tls_is_unchanged():
        return "a part of asyncio's TLS protocol was replaced"
    from .session import why_not

    missing = missing_names()
    return f"its transport calls {', '.join(sorted(missing))}" if missing else why_not()


@functools.cache
def missing_names() -> set[str]:
    """Return the private names that asyncio's transport of TLS uses, and neither it nor this package's protocol has."""
    from .protocol import TlsProtocol

    if hooks.SslTransport is None:
        return {"a class that is missing"}
    functions = (value for value in vars(hooks.SslTransport).values() if isinstance(value, types.FunctionType))
    names = {name for function in functions for name in function.__code__.co_names if name.startswith("_")}
    return {name for name in names if not hasattr(TlsProtocol, name) and name not in hooks.SSL_TRANSPORT_NAMES}


def describe_choice() -> str:
    """Return which protocol TLS connections have, and why, for the doctor."""
    try:
        reason = why_asyncio()
    except (ImportError, ValueError) as error:
        return f"no connection can be made: {error}"
    if reason:
        return f"asyncio's protocol, since {reason}"
    return f"this package's protocol, on {hooks.ssl.OPENSSL_VERSION}"


def make_tls(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    context: "SSLContext",
    waiter: Any,
    **options: Any,
) -> tuple[Any, asyncio.Transport]:
    """Return a TLS protocol around the application's, and the transport that the latter sees.

    Args:
        loop: the loop of the transport below.
        protocol: the application's.
        context: an `ssl.SSLContext`, or a false value for a client's default one.
        waiter: a future that is resolved after the handshake.
        options: see `protocol.make_tls_protocol`.

    Raises:
        ValueError: a timeout is not positive, the environment variable has an unknown value, or as from `wrap_bio`.
    """
    if not why_asyncio() and _makes_usual_objects(context):
        from .protocol import make_tls_protocol

        made = make_tls_protocol(loop, protocol, context, waiter, **options)
        if made is not None:
            return made, made._app_transport
    return hooks.make_tls_protocol(loop, protocol, context, waiter, **options)


def take_buffered(protocol: asyncio.BaseProtocol) -> bytes:
    """Return the bytes that a stream's reader holds, and leave it empty.

    A client's hello may have come before its server upgrades the connection; for the reader they are no data.
    """
    reader = getattr(protocol, "_stream_reader", None) if isinstance(protocol, asyncio.StreamReaderProtocol) else None
    if reader is None:
        return b""
    early = bytes(reader._buffer)
    reader._buffer.clear()
    return early


def feed(protocol: Any, data: bytes) -> None:
    """Give bytes to a TLS protocol, as a transport does that received them."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        protocol.data_received(data)
        return
    left = memoryview(data)
    while left:
        space = memoryview(protocol.get_buffer(len(left)))
        size = min(len(space), len(left))
        space[:size] = left[:size]
        protocol.buffer_updated(size)
        left = left[size:]


def _makes_usual_objects(context: Any) -> bool:
    """Return whether a context makes `ssl.SSLObject`s, as far as it tells without making one."""
    if not isinstance(context, hooks.ssl.SSLContext):
        return not context
    return (
        context.sslobject_class is hooks.ssl.SSLObject
        and context._msg_callback is None
        and "wrap_bio" not in vars(context)
    )
