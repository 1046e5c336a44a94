"""Everything private of asyncio (and of `selectors`) that this package relies on: names, signatures, types.

`HOOKS` is the one list.  On a Python that changed one of them the test of that name fails, and says what changed; in a
package that began to use another, `test_the_list_is_complete` does.
"""

import ast
import asyncio
import collections
import contextlib
import inspect
import re
import selectors
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import types
import warnings
import weakref
from asyncio import (
    base_events,
    base_subprocess,
    constants,
    events,
    format_helpers,
    futures,
    selector_events,
    sslproto,
    transports,
    trsock,
)
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

import uringloop
from uringloop import hooks

from .sources import cython_files, python_files


class Hook(NamedTuple):
    """A private name.

    Attributes:
        owner: what it is a name of; a key of `OWNERS`.
        name: the name.
        shape: of a callable its parameters, "=" after one with a default; of anything else its type.
    """

    owner: str
    name: str
    shape: str | type


_HAS_POLICIES = hasattr(asyncio, "set_event_loop_policy")
_SINCE_314 = sys.version_info >= (3, 14)
_SINCE_313 = sys.version_info >= (3, 13)
#: From 3.15 on asyncio hands the context of a connection to these; ours take it always.
_CONTEXT = " context=" if sys.version_info >= (3, 15) else ""
_SERVING = (
    "self protocol_factory sock sslcontext= server= backlog= ssl_handshake_timeout= ssl_shutdown_timeout=" + _CONTEXT
)
_TLS = (
    "self rawsock protocol sslcontext waiter= * server_side= server_hostname= extra= server="
    " ssl_handshake_timeout= ssl_shutdown_timeout=" + _CONTEXT
)
_TLS_PROTOCOL = (
    "self loop app_protocol sslcontext waiter server_side= server_hostname= call_connection_made="
    " ssl_handshake_timeout= ssl_shutdown_timeout="
)

#: The scheduler fills in these and no others, so a handle must have just these.
HANDLE_SLOTS = ("_callback", "_args", "_cancelled", "_loop", "_source_traceback", "_repr", "_context")
TIMER_SLOTS = ("_scheduled", "_when")

_EXECUTE_CHILD = (
    "self args executable preexec_fn close_fds pass_fds cwd env startupinfo creationflags shell"
    " p2cread p2cwrite c2pread c2pwrite errread errwrite"
    " restore_signals gid gids uid umask start_new_session process_group"
)

HOOKS = [
    # Overridden: asyncio calls ours.
    Hook("loop", "_run_once", "self"),
    Hook("loop", "_timer_handle_cancelled", "self handle"),
    Hook("loop", "_add_reader", "self fd callback args * context=" if _CONTEXT else "self fd callback args"),
    Hook("loop", "_add_writer", "self fd callback args * context=" if _CONTEXT else "self fd callback args"),
    Hook("loop", "_remove_reader", "self fd"),
    Hook("loop", "_remove_writer", "self fd"),
    Hook("loop", "_make_self_pipe", "self"),
    Hook("loop", "_read_from_self", "self"),
    Hook("loop", "_process_self_data", "self data"),
    Hook("loop", "_write_to_self", "self"),
    Hook("loop", "_make_socket_transport", "self sock protocol waiter= * extra= server=" + _CONTEXT),
    Hook("loop", "_make_ssl_transport", _TLS),
    Hook("loop", "_make_datagram_transport", "self sock protocol address= waiter= extra="),
    Hook("loop", "_sendfile_native", "self transp file offset count"),
    Hook("loop", "_sendfile_fallback", "self transp file offset count"),
    Hook("loop", "_sock_sendfile_native", "self sock file offset count"),
    Hook("loop", "_start_serving", _SERVING),
    Hook("loop", "_stop_serving", "self sock"),
    *([Hook("policy", "_loop_factory", "*")] if _HAS_POLICIES else []),
    Hook("loop", "_make_read_pipe_transport", "self pipe protocol waiter= extra="),
    Hook("loop", "_make_write_pipe_transport", "self pipe protocol waiter= extra="),
    Hook("loop", "_make_subprocess_transport", "self protocol args shell stdin stdout stderr bufsize extra= kwargs"),
    Hook("process", "_start", "self args shell stdin stdout stderr bufsize kwargs"),
    Hook("popen", "_execute_child", _EXECUTE_CHILD),
    # Called.
    Hook("loop", "_check_closed", "self"),
    Hook("loop", "_check_running", "self"),
    Hook("loop", "_check_thread", "self"),
    Hook("loop", "_check_callback", "self callback method"),
    Hook("loop", "_process_events", "self event_list"),
    Hook("loop", "_check_sendfile_params", "self sock file offset count"),
    Hook("loop", "_ensure_fd_no_transport", "self fd"),
    Hook("loop", "_ensure_resolved", "self address * family= type= proto= flags= loop"),
    Hook("handle", "_run", "self"),
    *([Hook("events", "_ThreadSafeHandle", "self callback args loop context=")] if _SINCE_314 else []),
    Hook("server", "_attach", "self transport" if _SINCE_313 else "self"),
    Hook("server", "_detach", "self transport" if _SINCE_313 else "self"),
    Hook("base_events", "_check_ssl_socket", "sock"),
    Hook("base_events", "_format_handle", "handle"),
    Hook("base_events", "_SendfileFallbackProtocol", type),
    Hook("format_helpers", "_format_callback_source", "func args * debug=" if _SINCE_313 else "func args"),
    Hook("futures", "_convert_future_exc", "exc"),
    Hook("thread_pool", "_adjust_thread_count", "self"),
    Hook("trsock", "TransportSocket", "self sock"),
    Hook("sslproto", "SSLProtocol", _TLS_PROTOCOL),
    Hook("transports", "_FlowControlMixin", "self extra= loop="),
    Hook("transport", "_set_write_buffer_limits", "self high= low="),
    Hook("transport", "_maybe_pause_protocol", "self"),
    Hook("transport", "_maybe_resume_protocol", "self"),
    Hook("process", "_check_proc", "self"),
    Hook("process", "_process_exited", "self returncode"),
    Hook("process", "_wait", "self"),
    Hook("popen", "_close_pipe_fds", "self p2cread p2cwrite c2pread c2pwrite errread errwrite"),
    # Read, and some of them written.
    Hook("loop", "_ssock", socket.socket),
    Hook("loop", "_csock", socket.socket),
    Hook("loop", "_internal_fds", int),
    Hook("loop", "_default_executor", type(None)),
    Hook("loop", "_executor_shutdown_called", bool),
    Hook("loop", "_ready", collections.deque),
    Hook("loop", "_scheduled", list),
    Hook("loop", "_timer_cancelled_count", int),
    Hook("loop", "_stopping", bool),
    Hook("loop", "_thread_id", type(None)),
    Hook("loop", "_task_factory", type(None)),
    Hook("loop", "_closed", bool),
    Hook("loop", "_debug", bool),
    Hook("loop", "_clock_resolution", float),
    Hook("loop", "_current_handle", type(None)),
    Hook("loop", "_signal_handlers", dict),
    Hook("loop", "_transports", weakref.WeakValueDictionary),
    *(Hook("handle", name, object) for name in (*HANDLE_SLOTS, *TIMER_SLOTS)),
    Hook("transport", "_extra", dict),
    Hook("transport", "_loop", asyncio.AbstractEventLoop),
    Hook("transport", "_high_water", int),
    Hook("transport", "_low_water", int),
    Hook("transport", "_protocol_paused", bool),
    Hook("process", "_loop", object),
    Hook("process", "_proc", object),
    Hook("process", "_pipes", dict),
    Hook("popen", "_child_created", bool),
    Hook("selector", "_fd_to_key", dict),
    Hook("selector", "_fileobj_lookup", "self fileobj"),
    Hook("thread_pool", "_broken", bool),
    Hook("thread_pool", "_idle_semaphore", threading.Semaphore),
    Hook("thread_pool", "_max_workers", int),
    Hook("thread_pool", "_shutdown", bool),
    Hook("thread_pool", "_shutdown_lock", object),
    Hook("thread_pool", "_threads", set),
    Hook("thread_pool", "_work_queue", object),
    Hook("thread_pools", "_WorkItem", type),
    Hook("thread_pools", "_global_shutdown_lock", object),
    *([Hook("server", "_clients", weakref.WeakSet)] if _SINCE_313 else []),
    Hook("clients", "data", set),
    Hook("clients", "_remove", "item selfref="),
    Hook("server", "_sockets", list),
    # Done by the engine in their place.
    Hook("reader_protocol", "data_received", "self data"),
    Hook("reader_protocol", "_connection_lost", bool),
    Hook("reader_protocol", "_drain_helper", "self"),
    Hook("reader_protocol", "_stream_reader", asyncio.StreamReader),
    Hook("reader_protocol", "_stream_reader_wr", weakref.ref),
    Hook("reader", "feed_data", "self data"),
    Hook("reader", "_wakeup_waiter", "self"),
    Hook("reader", "_waiter", type(None)),
    Hook("reader", "_exception", type(None)),
    Hook("reader", "_paused", bool),
    Hook("reader", "_buffer", bytearray),
    Hook("reader", "_eof", bool),
    Hook("reader", "_limit", int),
    Hook("tls", "get_buffer", "self n"),
    Hook("tls", "buffer_updated", "self nbytes"),
    Hook("tls", "_do_read", "self"),
    Hook("tls", "_do_read__copied", "self"),
    Hook("tls", "_write_appdata", "self list_of_data"),
    Hook("tls", "_do_write", "self"),
    Hook("tls", "_process_outgoing", "self"),
    Hook("tls", "_control_app_writing", "self"),
    Hook("tls", "_control_ssl_reading", "self"),
    Hook("tls", "_abort", "*"),
    Hook("tls", "_call_eof_received", "self"),
    Hook("tls", "_check_handshake_timeout", "self"),
    Hook("tls", "_check_shutdown_timeout", "self"),
    Hook("tls", "_get_extra_info", "self name default="),
    Hook("tls", "_get_read_buffer_size", "self"),
    Hook("tls", "_get_write_buffer_size", "self"),
    Hook("tls", "_pause_reading", "self"),
    Hook("tls", "_resume_reading", "self"),
    Hook("tls", "_set_app_protocol", "self app_protocol"),
    Hook("tls", "_set_read_buffer_limits", "self high= low="),
    Hook("tls", "_set_write_buffer_limits", "self high= low="),
    Hook("tls", "_incoming_low_water", int),
    Hook("tls", "_outgoing_low_water", int),
    Hook("tls", "_write_buffer_size", int),
    Hook("tls_transport", "_closed", bool),
    Hook("sslproto", "_create_transport_context", "server_side server_hostname"),
    Hook("tls_context", "_msg_callback", type(None)),
    Hook("tls", "_fatal_error", "self exc message="),
    Hook("tls", "_start_shutdown", "self"),
    *([Hook("tls", "_is_transport_closing", "self")] if hasattr(sslproto.SSLProtocol, "_is_transport_closing") else []),
    Hook("tls", "_app_protocol", asyncio.Protocol),
    Hook("tls", "_app_protocol_is_buffer", bool),
    Hook("tls", "_app_reading_paused", bool),
    Hook("tls", "_app_transport", asyncio.Transport),
    Hook("tls", "_app_writing_paused", bool),
    Hook("tls", "_incoming", ssl.MemoryBIO),
    Hook("tls", "_incoming_high_water", int),
    Hook("tls", "_outgoing", ssl.MemoryBIO),
    Hook("tls", "_outgoing_high_water", int),
    Hook("tls", "_ssl_reading_paused", bool),
    Hook("tls", "_ssl_writing_paused", bool),
    Hook("tls", "_sslobj", ssl.SSLObject),
    Hook("tls", "_state", sslproto.SSLProtocolState),
    Hook("tls", "_transport", type(None)),
    Hook("tls", "_write_backlog", collections.deque),
    Hook("tls", "max_size", int),
    Hook("tls_transport", "write", "self data"),
    Hook("ssl_object", "_sslobj", object),
    Hook("sslproto", "_SSLProtocolTransport", "self loop ssl_protocol"),
    Hook("constants", "_SendfileMode", type),
    Hook("constants", "SSL_HANDSHAKE_TIMEOUT", float),
    Hook("constants", "SSL_SHUTDOWN_TIMEOUT", float),
]

#: Private attributes of a transport that asyncio's own code reads, by where it does: ours must have them.
READS = {
    "base_events.BaseEventLoop.sendfile": {"_sendfile_compatible"},
    "base_events.BaseEventLoop.start_tls": {"_start_tls_compatible"},
    "base_events._SendfileFallbackProtocol": {"_loop", "_protocol_paused"},
    "sslproto.SSLProtocol": {"_force_close"},
}

#: Names that asyncio has too, but that are ours and never meet its own.
COINCIDENCES = {
    "_lock": "BufferedFile's; asyncio.events has one",
    "_protocol": "of our transports over streams; asyncio's transport of a child has one",
    "_protocol_factory": "Listener's; asyncio.Server has one",
    "_wakeup": "EventLoop's; asyncio.Server has one",
}


@contextlib.contextmanager
def owners() -> Iterator[dict[str, Any]]:
    """What the hooks are names of: live objects where only an instance has the attribute."""
    loop = asyncio.SelectorEventLoop()
    selector = selectors.EpollSelector()
    reader = asyncio.StreamReader(loop=loop)
    tls, transport = _tls(loop)
    try:
        yield {
            "loop": loop,
            "handle": asyncio.TimerHandle(0.0, print, (), loop),
            "server": base_events.Server(loop, [], asyncio.Protocol, None, 1, None),
            "clients": weakref.WeakSet(),
            "transport": transports._FlowControlMixin(loop=loop),  # type: ignore[attr-defined]
            "process": _process_transport(),
            "popen": subprocess.Popen,
            "policy": _policy_class(),
            "selector": selector,
            "reader": reader,
            "reader_protocol": asyncio.StreamReaderProtocol(reader, loop=loop),
            "base_events": base_events,
            "constants": constants,
            "events": events,
            "format_helpers": format_helpers,
            "futures": futures,
            "ssl_object": tls._sslobj,
            "sslproto": sslproto,
            "thread_pool": ThreadPoolExecutor(1),
            "thread_pools": sys.modules[ThreadPoolExecutor.__module__],
            "tls": tls,
            "tls_context": tls._sslcontext,
            "tls_transport": transport,
            "transports": transports,
            "trsock": trsock,
        }
    finally:
        transport._closed = True  # it never opened, and would warn
        selector.close()
        loop.close()


def _tls(loop: asyncio.AbstractEventLoop) -> tuple[Any, Any]:
    return hooks.make_tls_protocol(
        loop,
        asyncio.Protocol(),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        None,
        server_side=False,
        server_hostname="localhost",
        handshake_timeout_s=1.0,
        shutdown_timeout_s=1.0,
    )


def _process_transport() -> Any:
    """A transport of a child that has ended, as far as one can be had without a running loop."""

    class Ended(base_subprocess.BaseSubprocessTransport):  # type: ignore[name-defined,misc]
        def _start(self, args: Any, shell: Any, stdin: Any, stdout: Any, stderr: Any, bufsize: Any) -> None:
            self._proc = types.SimpleNamespace(pid=1, poll=lambda: 0)

    loop = types.SimpleNamespace(get_debug=lambda: False, create_task=lambda coroutine: coroutine.close())
    transport = Ended(loop, asyncio.SubprocessProtocol(), ["true"], False, None, None, None, 0)
    transport.close()
    # The method that is overridden here.
    transport._start = base_subprocess.BaseSubprocessTransport._start  # type: ignore[attr-defined]
    return transport


def _policy_class() -> type | None:
    if not _HAS_POLICIES:
        return None
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        mro = uringloop.EventLoopPolicy.__mro__
    return next((base for base in mro if base.__module__.startswith("asyncio")), None)


def parameters(function: Any) -> str:
    """The parameters in the form of `Hook.shape`: names, "=" after one with a default, "*" before keywords only."""
    words = []
    if isinstance(function, type):
        function = function.__init__  # type: ignore[misc]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(parameter.name + ("=" if parameter.default is not inspect.Parameter.empty else ""))
    return " ".join(words)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: f"{hook.owner}.{hook.name}")
def test_python_still_has_it(hook: Hook) -> None:
    with owners() as found:
        owner = found[hook.owner]
        where = f"{hook.owner}.{hook.name} on Python {sys.version.split()[0]}"
        assert hasattr(owner, hook.name), f"{where} is gone"
        value = getattr(owner, hook.name)
        if isinstance(hook.shape, type):
            assert isinstance(value, hook.shape), f"{where} is now a {type(value).__name__}"
        elif hook.shape == "*":
            assert callable(value), f"{where} cannot be called any more"
        else:
            function = getattr(value, "__func__", value)
            assert parameters(function) == hook.shape, f"{where} has other parameters"


OVERRIDDEN = [
    hook.name
    for hook in HOOKS
    if hook.owner == "loop" and isinstance(hook.shape, str) and hook.name in vars(uringloop.EventLoop)
]


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_the_override_has_the_same_parameters(name: str) -> None:
    theirs = parameters(getattr(asyncio.SelectorEventLoop, name))
    assert parameters(getattr(uringloop.EventLoop, name)) in (theirs, f"{theirs} context=")


@pytest.mark.parametrize(("kind", "slots"), [(asyncio.Handle, HANDLE_SLOTS), (asyncio.TimerHandle, TIMER_SLOTS)])
def test_handles_have_just_the_slots_that_the_scheduler_fills(kind: type, slots: tuple[str, ...]) -> None:
    assert {*kind.__slots__} - {"__weakref__"} == {*slots}  # type: ignore[attr-defined]
    assert all(inspect.ismemberdescriptor(vars(kind)[name]) for name in slots)


def test_sendfile_modes() -> None:
    assert [mode.name for mode in hooks.SendfileMode] == ["UNSUPPORTED", "TRY_NATIVE", "FALLBACK"]


def test_tls_protocol_has_a_transport_for_the_application() -> None:
    with owners() as found:
        assert isinstance(found["tls"], asyncio.BufferedProtocol)
        assert isinstance(found["tls_transport"], asyncio.Transport)


def test_tls_protocol_is_known() -> None:
    with owners() as found:
        assert hooks.tls_is_known(found["tls"])
        del found["tls"]._write_backlog
        assert not hooks.tls_is_known(found["tls"])


# What asyncio reads of our transports


@pytest.mark.parametrize("place", READS)
def test_asyncio_reads_no_more_of_a_transport(place: str) -> None:
    module, *path = place.split(".")
    source: Any = {"base_events": base_events, "selector_events": selector_events, "sslproto": sslproto}[module]
    for name in path:
        source = getattr(source, name)
    text = textwrap.dedent(inspect.getsource(source))
    read = set(re.findall(r"\b(?:self\._transport|transp|transport)\.(_[a-z]\w*)", text))
    read |= set(re.findall(r"getattr\(transport, '(_\w+)'", text))
    assert read == READS[place]


def test_our_transport_has_what_asyncio_reads() -> None:
    wanted = set().union(*READS.values())

    class Lost(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = asyncio.Event()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set()

    async def look() -> set[str]:
        near, far = socket.socketpair()
        with far:
            transport, protocol = await asyncio.get_running_loop().create_connection(Lost, sock=near)
            missing = {name for name in wanted if not hasattr(transport, name)}
            # The fallback of sendfile insists on it.
            if not isinstance(transport, transports._FlowControlMixin):  # type: ignore[attr-defined]
                missing.add("_FlowControlMixin")
            transport.abort()
            await protocol.lost.wait()
            return missing

    with asyncio.Runner(loop_factory=uringloop.EventLoop) as runner:
        assert runner.run(look()) == set()


# The list itself


def _private_names() -> dict[str, set[str]]:
    """Every private name that the package defines or uses, and where."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found[name].add(path.name)
                case ast.AnnAssign(target=ast.Name(id=name)) | ast.alias(name=name):
                    found[name].add(path.name)
                case ast.Assign(targets=[ast.Name(id=name)]):
                    found[name].add(path.name)
    for path in cython_files():
        for name in re.findall(r"\b_[a-z]\w*", path.read_text()):
            found[name].add(path.name)
    return {name: where for name, where in found.items() if _is_private(name)}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_the_list_is_complete() -> None:
    with owners() as found:
        theirs = {name for owner in found.values() for name in dir(owner) if _is_private(name)}
    listed = {hook.name for hook in HOOKS} | set().union(*READS.values()) | COINCIDENCES.keys()
    used = _private_names()
    unlisted = {name: sorted(used[name]) for name in used.keys() & theirs - listed}
    assert not unlisted, "private names of asyncio that HOOKS does not list"


def test_the_list_has_nothing_superfluous() -> None:
    used = _private_names()
    assert [hook.name for hook in HOOKS if _is_private(hook.name) and hook.name not in used] == []


def test_only_hooks_reaches_into_modules() -> None:
    """Private names of asyncio's modules are taken in hooks.py alone."""
    modules = "base_events|constants|events|selector_events|sslproto|transports|trsock|unix_events"
    for path in python_files():
        if path.name != "hooks.py":
            assert not re.findall(rf"\b(?:{modules})\._\w+", path.read_text()), path
