"""`Ring.run_many`: results in order, errors, bounds, and endings in the middle."""

import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import needs
from uringloop.operations import Nop, Open, Read, Ready, ReceiveInto, SendAll, Stat, Timeout, Write
from uringloop.ring import Opcode, Ring, SqeFlag


def test_results_are_in_the_order_of_the_operations(ring: Ring, tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = ring.run(Open(str(path), os.O_RDWR | os.O_CREAT))
    parts = [os.urandom(number + 1) for number in range(100)]
    assert ring.run_many([Write(fd, part, number * 100) for number, part in enumerate(parts)]) == [*range(1, 101)]
    buffers = [bytearray(number + 1) for number in range(100)]
    assert ring.run_many(Read(fd, buffer, number * 100) for number, buffer in enumerate(buffers)) == [*range(1, 101)]
    assert buffers == parts
    os.close(fd)
    # Classes of Python beside compiled ones.
    status, result = ring.run_many([Stat(str(path)), Nop()])
    assert (status.st_size, result) == (10_000, 0)
    assert ring.run_many([]) == []


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_no_more_are_in_flight_than_depth(ring: Ring, depth: int) -> None:
    seen: list[int] = []

    def operations() -> Iterator[Nop]:
        for _ in range(50):
            seen.append(ring.in_flight)
            yield Nop()

    assert ring.run_many(operations(), depth) == [0] * 50
    assert max(seen) == min(depth - 1, 49)


def test_the_first_failure_in_order_is_raised_after_the_last_end(ring: Ring, tmp_path: Path) -> None:
    """The descriptors that no caller gets are closed (a fixture looks)."""
    path = tmp_path / "file"
    path.touch()
    missing = str(tmp_path / "missing")
    opens = [str(path), missing, str(path), str(tmp_path), str(path)]
    operations = [Open(name, os.O_RDWR) for name in opens]
    with pytest.raises(FileNotFoundError) as caught:
        ring.run_many(operations)
    assert caught.value.filename == missing
    assert not any(operation.in_flight for operation in operations)


def test_failures_as_results(ring: Ring, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"some")
    missing = str(tmp_path / "missing")
    with path.open("rb") as file:
        operations = [Read(file.fileno(), bytearray(4), 0), Open(missing, os.O_RDONLY), Read(-1, bytearray(1), 0)]
        size_bytes, not_found, bad = ring.run_many(operations, return_exceptions=True)
    assert size_bytes == 4
    assert (type(not_found), not_found.errno, not_found.filename) == (FileNotFoundError, errno.ENOENT, missing)
    assert (type(bad), bad.errno, bad.filename) == (OSError, errno.EBADF, None)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        ring.run_many([Nop(), Read(-1, bytearray(1), 0)])


def test_other_completions_stay_for_later(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """Also one that was staged so long ago that others have its place in the table."""
    ours, theirs = pair
    receive = ring.prepare(ReceiveInto(ours.fileno(), bytearray(4), _never))
    first = ring.prepare(Nop())
    assert ring.run_many([Nop() for _ in range(100)]) == [0] * 100
    theirs.send(b"data")
    assert [completion.operation for completion in ring.completions()] == [first, receive]


def test_a_subclass_has_its_methods_called(ring: Ring) -> None:
    class Counting(Nop):
        def result(self, res: int, flags: int) -> Any:
            return "counted"

    assert ring.run_many([Counting(), Nop()]) == ["counted", 0]
    assert ring.run(Counting()) == "counted"


def test_a_result_that_cannot_be_converted(ring: Ring) -> None:
    """The descriptors that no caller gets are closed (a fixture looks)."""

    class Unconverted(Nop):
        def result(self, res: int, flags: int) -> Any:
            raise ZeroDivisionError

    class AsFile(Open):
        def result(self, res: int, flags: int) -> Any:
            return open(super().result(res, flags), "rb", buffering=0)

    operations = [Open(".", os.O_RDONLY), AsFile(__file__, os.O_RDONLY), Unconverted(), Open(".", os.O_RDONLY)]
    with pytest.warns(ResourceWarning, match="unclosed file"), pytest.raises(ZeroDivisionError):
        ring.run_many(operations)


def test_a_handler_that_raises_ends_the_wait(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """The memory is the caller's again, and descriptors that were opened are closed (a fixture looks)."""

    class Stop(BaseException):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stop

    buffer = bytearray(4)
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Stop):
            ring.run_many([Open(".", os.O_RDONLY), Read(pair[0].fileno(), buffer), Nop(), Timeout(3600 * 10**9)])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ring.in_flight == 0
    buffer.extend(b"it is the caller's")


def test_a_handler_that_raises_when_an_operation_is_staged(ring: Ring) -> None:
    class Stop(BaseException):
        pass

    class Stopping(Ready):
        def stage(self, dispatcher: Any) -> int:
            super().stage(dispatcher)
            raise Stop  # as a handler does that runs here

    ours, theirs = socket.socketpair()
    with ours, theirs:
        operation = Stopping(ours.fileno(), select.POLLIN)
        with pytest.raises(Stop):
            ring.run_many([Nop(), operation])
        assert ring.in_flight == 0
        assert not list(ring.completions())


def test_an_iterable_that_raises(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    operations = [Ready(pair[0].fileno(), select.POLLIN), Open(".", os.O_RDONLY)]

    def failing() -> Iterator[Any]:
        yield from operations
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ring.run_many(failing())
    assert not any(operation.in_flight for operation in operations)
    assert ring.in_flight == 0


@pytest.mark.parametrize(
    "use",
    [
        lambda ring: ring.run(Nop()),
        lambda ring: ring.run_many([Nop(), Stat(".")]),
        lambda ring: ring.submit(),
        lambda ring: ring.peek_cqe(),
        lambda ring: list(ring.completions()),
        lambda ring: [ring.prepare(Nop()), ring.wait_cqe()],
    ],
)
def test_an_iterable_that_uses_the_ring(ring: Ring, use: Callable[[Ring], Any]) -> None:
    other = Foreign()

    def operations() -> Iterator[Any]:
        yield from (Nop(), Stat("."), other)
        ring.submit()
        for _ in range(20):
            use(ring)
            yield Nop()

    results = ring.run_many(operations(), 4)
    assert results[0] == 0
    assert results[2:] == ["foreign"] + [0] * 20
    assert not list(ring.completions())


def test_an_iterable_that_takes_completions_and_fails(ring: Ring, tmp_path: Path) -> None:
    """The descriptors that no caller gets are closed (a fixture looks)."""
    path = tmp_path / "file"
    path.touch()

    def failing() -> Iterator[Any]:
        for _ in range(4):
            yield Open(str(path), os.O_RDONLY)
            ring.run(Nop())
        raise ZeroDivisionError

    by_hand = ring.get_sqe()
    with pytest.raises(ZeroDivisionError):
        ring.run_many(failing())
    assert [completion.operation for completion in ring.completions()] == [by_hand]


def test_misuse(ring: Ring) -> None:
    nop = Nop()
    with pytest.raises(ValueError, match="in flight only once"):
        ring.run_many([nop, nop])
    with pytest.raises(ValueError, match="depth"):
        ring.run_many([nop], 0)
    skipping = Nop()
    skipping.modifiers |= SqeFlag.CQE_SKIP_SUCCESS
    with pytest.raises(ValueError, match="skips success"):
        ring.run_many([nop, skipping])
    # One after the other an object may come twice.
    assert ring.run_many([nop, nop], 1) == [0, 0]


@needs("zero-copy sends")
@needs("io_uring")
def test_a_send_without_a_copy_ends_with_its_notification() -> None:
    from uringloop.operations import SendZeroCopy

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted, Ring(8) as own:
            assert own.run_many([SendZeroCopy(client.fileno(), b"some"), SendAll(client.fileno(), b"more", 0)]) == [
                4,
                4,
            ]
            assert own.in_flight == 0
            assert accepted.recv(8, socket.MSG_WAITALL) == b"some" + b"more"


class Foreign:
    """An operation that is not derived from the package's."""

    opcode = Opcode.NOP
    token = 0

    def submit(self, dispatcher: Any) -> None:
        self.token = dispatcher.stage(self, Opcode.NOP, -1)

    def finish(self, res: int) -> int:
        return res

    def release(self) -> None:
        """Do nothing: it has no memory."""

    def result(self, res: int, flags: int) -> str:
        return "foreign"

    def dispose(self, res: int, flags: int) -> None:
        """Do nothing: its result needs no disposal."""


def _never(data: bytes) -> None:
    raise AssertionError(f"{data!r} was kept")
