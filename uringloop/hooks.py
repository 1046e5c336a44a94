"""The private names of asyncio and subprocess that this package relies on, in one place.

`SelectorEventLoop` has no public way to change how it sleeps or which transports it makes.  So the loop overrides and
reads some of its private names.  They are declared here with their types.  A test compares them with the asyncio of the
running Python, and fails if one has changed.
"""

import asyncio
import subprocess
import sys
import threading
from asyncio import (
    base_events,
    base_subprocess,
    constants,
    events,
    format_helpers,
    futures,
    sslproto,
    streams,
    transports,
    trsock,
)
from collections import deque
from collections.abc import Callable
from socket import socket
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl import SSLContext

#: The module, or None for a Python without it.
ssl: Any = sslproto.ssl  # type: ignore[attr-defined]
check_ssl_socket: Callable[[Any], None] = base_events._check_ssl_socket  # type: ignore[attr-defined]
describe_callback: Callable[[Any, Any], str] = format_helpers._format_callback_source
sendfile_fallback_protocol: Any = base_events._SendfileFallbackProtocol  # type: ignore[attr-defined]
format_handle: Callable[[asyncio.Handle], str] = base_events._format_handle  # type: ignore[attr-defined]
#: The type that call_soon_threadsafe returns from Python 3.14 on.
ThreadSafeHandle: type[asyncio.Handle] | None = None
if sys.version_info >= (3, 14):
    ThreadSafeHandle = events._ThreadSafeHandle  # type: ignore[attr-defined]
TransportSocket = trsock.TransportSocket
SendfileMode = constants._SendfileMode
SSL_HANDSHAKE_TIMEOUT_S = constants.SSL_HANDSHAKE_TIMEOUT
SSL_SHUTDOWN_TIMEOUT_S = constants.SSL_SHUTDOWN_TIMEOUT


def handles_are_run_as_usual(handle_type: type[asyncio.Handle]) -> bool:
    """Return whether `handle_type._run` is asyncio's own function: tools replace it to measure callbacks."""
    run = handle_type._run
    return getattr(run, "__globals__", None) is vars(events) and run.__code__.co_name == "_run"


#: Makes asyncio's exceptions of those of `concurrent.futures`.
convert_executor_exception: Callable[[BaseException], BaseException] = futures._convert_future_exc  # type: ignore[attr-defined]


def thread_pool_is_usual() -> bool:
    """Return whether `ThreadPoolExecutor`, once loaded, works as `executor.pyx` expects, unchanged by any tool."""
    module: Any = sys.modules["concurrent.futures.thread"]
    pool = module.ThreadPoolExecutor
    functions = {pool.submit: "self fn", pool._adjust_thread_count: "self", module._WorkItem.run: "self"}
    return hasattr(threading.Semaphore(0), "_value") and all(
        type(function) is FunctionType
        and function.__globals__ is vars(module)
        and " ".join(function.__code__.co_varnames[: function.__code__.co_argcount]) == parameters
        for function, parameters in functions.items()
    )


#: The attributes that asyncio gives its loops, but for those that `Scheduler` has.  `EventLoop` has slots for them:
#: while its dict stays empty, CPython finds its methods without a search.
LOOP_ATTRIBUTES = (
    "_asyncgens",
    "_asyncgens_shutdown_called",
    "_clock_resolution",
    "_coroutine_origin_tracking_enabled",
    "_coroutine_origin_tracking_saved_depth",
    "_csock",
    "_current_handle",
    "_default_executor",
    "_exception_handler",
    "_executor_shutdown_called",
    "_internal_fds",
    "_old_agen_hooks",
    "_selector",
    "_signal_handlers",
    "_ssock",
    "_transports",
    "_unix_server_sockets",
    "_watcher",
)


class PrivateLoop(asyncio.SelectorEventLoop):
    """asyncio's selector loop, with the types of its private names."""

    if TYPE_CHECKING:
        # Written by EventLoop.
        _ssock: socket
        _csock: socket
        _internal_fds: int
        _current_handle: asyncio.Handle | None
        _clock_resolution: float
        # Read.
        _ready: deque[asyncio.Handle]
        _stopping: bool
        _debug: bool
        _signal_handlers: dict[int, asyncio.Handle]
        _transports: Any

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _check_callback(self, callback: Any, method: str) -> None: ...
        def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...
        def _write_to_self(self) -> None: ...
        def _read_from_self(self) -> None: ...
        def _process_self_data(self, data: bytes) -> None: ...
        def _process_events(self, event_list: list[Any]) -> None: ...
        def _stop_serving(self, sock: socket) -> None: ...
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        def _check_sendfile_params(self, sock: Any, file: Any, offset: int, count: int | None) -> None: ...
        async def _sock_sendfile_native(self, sock: socket, file: Any, offset: int, count: int | None) -> int: ...
        async def _sendfile_native(
            self, transp: asyncio.BaseTransport, file: Any, offset: int, count: int | None
        ) -> int: ...
        async def _sendfile_fallback(self, transp: Any, file: Any, offset: int, count: int | None) -> int: ...
        def _make_datagram_transport(
            self, sock: socket, protocol: asyncio.DatagramProtocol, address: Any, waiter: Any, extra: Any
        ) -> asyncio.DatagramTransport: ...
        async def _ensure_resolved(
            self, address: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0, loop: Any
        ) -> Any: ...


if TYPE_CHECKING:

    class PrivateTransport(asyncio.Transport):
        """asyncio's transport with flow control."""

        _loop: asyncio.AbstractEventLoop
        _extra: dict[str, Any]
        _high_water: int
        _low_water: int
        _protocol_paused: bool

        def __init__(self, extra: dict[str, Any] | None, loop: asyncio.AbstractEventLoop) -> None: ...
        def _set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
        def _maybe_pause_protocol(self) -> None: ...
        def _maybe_resume_protocol(self) -> None: ...
else:
    PrivateTransport = transports._FlowControlMixin

#: asyncio's default low-water and high-water mark of a transport's queue, in bytes.
WRITE_BUFFER_LIMITS: tuple[int, int] = PrivateTransport(loop=object()).get_write_buffer_limits()  # type: ignore[call-arg, arg-type]


# asyncio's own, also when `uringloop.streams.install` has given the names to others.
StreamReaderOfAsyncio = asyncio.StreamReader
StreamReaderProtocolOfAsyncio = asyncio.StreamReaderProtocol
StreamWriterOfAsyncio = asyncio.StreamWriter
#: The limit of a stream reader, where none is given.
STREAM_LIMIT_BYTES: int = streams._DEFAULT_LIMIT  # type: ignore[attr-defined]
#: The loop that asyncio takes where none is given.
usual_loop: Callable[[], Any] = getattr(events, "_get_event_loop", events.get_event_loop)
#: The traceback of where an object was made, for debug mode.
describe_stack: Callable[[Any], Any] = format_helpers.extract_stack


def stream_feeding() -> tuple[Any, ...]:
    """Return the functions that carry bytes from a protocol into a stream reader.

    The engine does their work, with the same attributes, unless a tool has replaced one of them.
    """
    reader: Any = StreamReaderOfAsyncio
    protocol: Any = StreamReaderProtocolOfAsyncio
    return protocol.data_received, protocol._stream_reader, reader.feed_data, reader._wakeup_waiter


_tls: Any = sslproto
#: The state of asyncio's TLS protocol between handshake and shutdown; None for a Python without such a state.
TLS_OPEN = getattr(getattr(_tls, "SSLProtocolState", None), "WRAPPED", None)
#: The methods of asyncio's TLS protocol, of its transport and of `ssl.SSLObject` that the engine replaces.
_TLS_DONE: dict[Any, str] = {
    _tls.SSLProtocol: (
        "get_buffer buffer_updated _do_read _do_read__copied _write_appdata _do_write _process_outgoing"
        " _control_app_writing _control_ssl_reading"
    ),
    getattr(_tls, "_SSLProtocolTransport", None): "write",
    getattr(ssl, "SSLObject", None): "read write pending",
}
#: What OpenSSL says when it needs more bytes.
TLS_AGAIN: tuple[type[OSError], ...] = (ssl.SSLWantReadError, ssl.SSLSyscallError) if ssl else ()
#: The attributes of the protocol that the engine reads, from its dict.
_TLS_READ = (
    "_app_protocol _app_protocol_is_buffer _app_reading_paused _app_transport _app_writing_paused _incoming"
    " _incoming_high_water _outgoing _outgoing_high_water _ssl_reading_paused _ssl_writing_paused _sslobj _state"
    " _transport _write_backlog"
)
#: Its other methods that the engine calls.
_TLS_CALLED = "_call_eof_received _fatal_error _start_shutdown"


def _tls_functions() -> list[Any]:
    return [getattr(owner, name, None) for owner, names in _TLS_DONE.items() for name in names.split()]


_TLS_FUNCTIONS = _tls_functions()


def tls_is_known(protocol: Any) -> bool:
    """Return whether an `SSLProtocol` has all names that the engine uses, and no tool has replaced one."""
    return (
        None not in _TLS_FUNCTIONS
        and _tls_functions() == _TLS_FUNCTIONS
        and vars(protocol).keys() >= set(_TLS_READ.split())
        and all(hasattr(protocol, name) for name in _TLS_CALLED.split())
        and type(protocol._app_transport) is _tls._SSLProtocolTransport
        and type(protocol._sslobj) is ssl.SSLObject
        and hasattr(protocol._sslobj, "_sslobj")
    )


_TLS_PARTS = {owner: dict(vars(owner)) for owner in _TLS_DONE if owner is not None}


def tls_is_unchanged() -> bool:
    """Return whether no tool has replaced a part of asyncio's TLS protocol, of its transport or of `ssl.SSLObject`."""
    return all(vars(owner) == parts for owner, parts in _TLS_PARTS.items())


#: The types of TLS protocols, which stand between a transport and the application's protocol.
TLS_PROTOCOLS: list[type] = [sslproto.SSLProtocol]


def application_of(protocol: Any) -> Any:
    """Return the protocol that the application gave: behind a TLS protocol, or this one itself."""
    return getattr(protocol, "_app_protocol", protocol) if type(protocol) in TLS_PROTOCOLS else protocol


#: The transport that the application sees over TLS; it calls the methods of a TLS protocol.
SslTransport: Any = getattr(_tls, "_SSLProtocolTransport", None)
#: The private names that it has itself, and `super`'s.
SSL_TRANSPORT_NAMES = {"_closed", "_loop", "_ssl_protocol", "_force_close", "_warnings", "__class__", "__init__"}
default_tls_context: "Callable[[bool, str | None], SSLContext]" = _tls._create_transport_context
flow_control_limits: Callable[[Any, Any, int], tuple[Any, Any]] = _tls.add_flowcontrol_defaults
SSL_READ_HIGH_WATER_KIB: int = constants.FLOW_CONTROL_HIGH_WATER_SSL_READ
SSL_WRITE_HIGH_WATER_KIB: int = constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE
LOST_WRITES_BEFORE_WARNING: int = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


def transports_by_descriptor(loop: PrivateLoop) -> dict[int, Any]:
    """Return the dict below the loop's weak dictionary of transports: a look-up through Python would cost too much."""
    transports: dict[int, Any] = loop._transports.data
    return transports


def make_tls_protocol(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    context: "SSLContext",
    waiter: Any,
    *,
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout_s: float | None,
    shutdown_timeout_s: float | None,
    calls_connection_made: bool = True,
) -> tuple[asyncio.Protocol, asyncio.Transport]:
    """Return asyncio's TLS protocol around a protocol, and the transport that the latter sees."""
    make: Any = sslproto.SSLProtocol
    tls = make(
        loop,
        protocol,
        context,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=handshake_timeout_s,
        ssl_shutdown_timeout=shutdown_timeout_s,
        call_connection_made=calls_connection_made,
    )
    return tls, tls._app_transport


if TYPE_CHECKING:

    class PrivateProcessTransport(asyncio.SubprocessTransport):
        """asyncio's transport of a child process, without its start and without the notice of its end."""

        _loop: Any
        _proc: subprocess.Popen[bytes] | None
        _pipes: dict[int, Any]

        def __init__(
            self,
            loop: asyncio.AbstractEventLoop,
            protocol: asyncio.BaseProtocol,
            args: Any,
            shell: bool,
            stdin: Any,
            stdout: Any,
            stderr: Any,
            bufsize: int,
            waiter: Any = None,
            extra: dict[str, Any] | None = None,
            **kwargs: Any,
        ) -> None: ...
        def _check_proc(self) -> None: ...
        def _process_exited(self, returncode: int) -> None: ...
        async def _wait(self) -> int: ...

    class PrivatePopen(subprocess.Popen[bytes]):
        """subprocess.Popen, without the fork."""

        pid: int
        returncode: int | None
        _child_created: bool

        def _close_pipe_fds(
            self, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int
        ) -> None: ...
else:
    PrivateProcessTransport = base_subprocess.BaseSubprocessTransport
    PrivatePopen = subprocess.Popen


#: The parameters of `Popen._execute_child`, which `children.popen` overrides.
_EXECUTE_CHILD = (
    "self args executable preexec_fn close_fds pass_fds cwd env startupinfo creationflags shell"
    " p2cread p2cwrite c2pread c2pwrite errread errwrite"
    " restore_signals gid gids uid umask start_new_session process_group"
)


def popen_is_known() -> bool:
    """Return whether subprocess.Popen is the base of `PrivatePopen`, and starts children as expected."""
    if subprocess.Popen is not PrivatePopen:
        return False
    code = PrivatePopen._execute_child.__code__  # type: ignore[attr-defined]
    return " ".join(code.co_varnames[: code.co_argcount]) == _EXECUTE_CHILD
