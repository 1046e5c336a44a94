"""What a test needs of the kernel that an older one lacks: probed, never guessed from a version.

`needs` marks a test.  `tests/operations/covering.py` marks those that use an operation.
"""

import contextlib
import ctypes
import errno
import functools
import os
import resource
import socket
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import uringloop
from tests.absent import ABSENT_OPERATIONS, ABSENT_PARTS
from uringloop.operations import GetOption, Nop, Operation
from uringloop.ring import CqeFlag, Opcode, Ring, SqeFlag

#: Whether this Python was built without the GIL.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
needs_gil = pytest.mark.skipif(FREE_THREADED, reason="this Python has no GIL, or keeps no exception for later calls")

ABSENT = frozenset((*ABSENT_OPERATIONS, *ABSENT_PARTS))
_TIMEOUT_MULTISHOT = 1 << 6
_VSOCK_LOCAL = 1
_ARPHRD_CAN = 280
#: A kernel that posts tags late, or not at all, takes longer.
_TAG_WAIT_NS = 500_000_000


@contextlib.contextmanager
def _ring() -> Iterator[Ring]:
    with Ring(8, cq_entries=16) as ring:
        yield ring


def _has_results_of_nop() -> bool:
    with _ring() as ring:
        ring.prepare(Nop(3))
        return ring.wait_cqe().res == 3


def _has_multishot_timeouts() -> bool:
    once = (ctypes.c_int64 * 2)(0, 1)
    with _ring() as ring:
        sqe = ring.get_sqe()
        sqe.prep(Opcode.TIMEOUT, -1, ctypes.addressof(once), 1, 1, _TIMEOUT_MULTISHOT)
        return ring.wait_cqe().res != -errno.EINVAL


def _has_socket_commands() -> bool:
    with _ring() as ring, socket.socket() as sock:
        ring.prepare(GetOption(sock.fileno(), socket.SO_KEEPALIVE))
        return ring.wait_cqe().res >= 0


def _has_buffer_rings() -> bool:
    with _ring() as ring:
        return _is_accepted(lambda: ring.open_group(1, 1))


def _has_multishot_receives() -> bool:
    # As uringloop/ring/features.py has it, no probe reports a flag of an operation.
    return _has_buffer_rings() and Opcode.SEND_ZC in _opcodes()


def _has_multishot_accepts() -> bool:
    return Opcode.SOCKET in _opcodes()


def _has_more_after_a_buffer() -> bool:
    if not _has_buffer_rings():
        return False
    ours, theirs = socket.socketpair()
    with _ring() as ring, ours, theirs:
        group = ring.open_group(1, 1)
        theirs.send(b"ab")
        ring.get_sqe().prep(Opcode.RECV, ours.fileno(), flags=SqeFlag.BUFFER_SELECT, buf_index=group.group_id)
        completion = ring.wait_cqe()
        group.lend(completion).recycle()
        return bool(completion.flags & CqeFlag.SOCK_NONEMPTY)


def _has_resize() -> bool:
    with _ring() as ring:
        return _is_accepted(lambda: ring.resize(16, 32))


def _has_clock() -> bool:
    with _ring() as ring:
        return _is_accepted(lambda: ring.register_clock(time.CLOCK_BOOTTIME))


def _has_napi() -> bool:
    with _ring() as ring:
        return _is_accepted(lambda: ring.register_napi(50))


def _has_posting() -> bool:
    with _ring() as ring:
        if not _is_accepted(lambda: ring.post(1, 2)):
            return False
        ring.wait_cqe()
        return True


def _is_accepted(register: Callable[[], object]) -> bool:
    try:
        register()
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _has_tags_of_files() -> bool:
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        with _ring() as ring:
            files = ring.register_files([fd], tags=[5])
            files.unregister()
            with contextlib.suppress(TimeoutError):
                return ring.wait_cqe(_TAG_WAIT_NS).number == 5
        return False
    finally:
        os.close(fd)


_PROBES: dict[str, Callable[[], bool]] = {
    "results of NOP": _has_results_of_nop,
    "multishot timeouts": _has_multishot_timeouts,
    "socket commands": _has_socket_commands,
    "buffer rings": _has_buffer_rings,
    "multishot receives": _has_multishot_receives,
    "multishot accepts": _has_multishot_accepts,
    "SOCK_NONEMPTY for groups": _has_more_after_a_buffer,
    "resizing": _has_resize,
    "clocks": _has_clock,
    "busy polling": _has_napi,
    "messages without a ring": _has_posting,
    "tags of files": _has_tags_of_files,
}


def _has_packet_sockets() -> bool:
    with contextlib.suppress(PermissionError), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM):
        return True
    return False


def _has_vsock_loopback() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.bind((_VSOCK_LOCAL, socket.VMADDR_PORT_ANY))
        return True
    return False


def _has_can() -> bool:
    return can_interface() is not None


def _has_sctp() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, socket.IPPROTO_SCTP):
        return True
    return False


def can_interface() -> str | None:
    """Return the name of an interface for CAN that is up, such as vcan0, if there is one."""
    for name in sorted(Path("/sys/class/net").iterdir()):
        with contextlib.suppress(OSError):
            if int((name / "type").read_text()) == _ARPHRD_CAN and int((name / "flags").read_text(), 16) & 1:
                return name.name
    return None


#: Asked of every kernel, also where io_uring is refused.
_FAMILIES: dict[str, Callable[[], bool]] = {
    "packet sockets for this user": _has_packet_sockets,
    "vsock loopback": _has_vsock_loopback,
    "CAN interfaces": _has_can,
    "SCTP": _has_sctp,
}


@functools.cache
def _opcodes() -> frozenset[Opcode]:
    with _ring() as ring:
        return ring.features.opcodes


@functools.cache
def has(what: str | Opcode | type[Operation]) -> bool:
    """Return whether the kernel has a feature, an opcode, or the opcode of an operation.

    A feature that every io_uring has needs no probe.
    Without io_uring everything is there: such tests are skipped for another reason, or make do without.
    """
    if isinstance(what, str) and what in _FAMILIES:
        return _FAMILIES[what]()
    if not uringloop.is_available():
        return True
    if isinstance(what, str):
        return what not in _PROBES or _PROBES[what]()
    return (what if isinstance(what, Opcode) else what.opcode) in _opcodes()


def needs(*features: str | Opcode | type[Operation]) -> pytest.MarkDecorator:
    """Skip a test where the kernel, or the backend that it runs on, lacks one of these, and name it."""
    return pytest.mark.needs.with_args(*features)


def missing(item: pytest.Item) -> str | None:
    """Return why a test cannot run: the names of the features that it needs, and that are not there; else None."""
    features = [feature for mark in item.iter_markers("needs") for feature in mark.args]
    if _is_on_epoll(item):
        if absent := ABSENT & {_name(feature) for feature in features}:
            return f"the backend epoll has no {', '.join(sorted(absent))}"
        # What the kernel's io_uring lacks, that backend has of its own.
        features = [feature for feature in features if feature in _FAMILIES]
    kernel = [_name(feature) for feature in features if not has(feature)]
    return f"this kernel has no {', '.join(kernel)}" if kernel else None


def _name(feature: str | Opcode | type[Operation]) -> str:
    if isinstance(feature, str):
        return feature
    return (feature if isinstance(feature, Opcode) else feature.opcode).name


def _is_on_epoll(item: pytest.Item) -> bool:
    """Return whether one of its parameters is a loop or ring on that backend, as all are where io_uring is refused."""
    if not uringloop.is_available():
        return True
    call = getattr(item, "callspec", None)
    return call is not None and "epoll" in call.id.split("-")


def skip_without_attributes(path: Path) -> None:
    """Skip a test where the file system of an existing file has no extended attributes of users."""
    try:
        os.setxattr(path, "user.probe", b"")
        os.removexattr(path, "user.probe")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system has no extended attributes")


def skip_without_nowait(path: Path) -> None:
    """Skip a test where a read of an existing file cannot be told not to wait."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system has no RWF_NOWAIT")
    finally:
        os.close(fd)


@contextlib.contextmanager
def room_for_descriptors(count: int) -> Iterator[None]:
    """Let this process open so many descriptors; skip the test where the hard limit is below that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"the limit of open files is {hard}, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
