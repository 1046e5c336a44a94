"""Buffer groups: the kernel picks, Python looks at what it lent, and nothing outlives its loan unnoticed."""

import errno
import gc
import os
import socket

import pytest

from tests.kernel import needs
from uringloop.ring import BufferGroup, Completion, CqeFlag, Opcode, Ring, SqeFlag

pytestmark = needs("buffer rings")
MULTISHOT = 1 << 1


def receive(ring: Ring, group: BufferGroup, ours: socket.socket) -> Completion:
    ring.get_sqe().prep(Opcode.RECV, ours.fileno(), flags=SqeFlag.BUFFER_SELECT, buf_index=group.group_id)
    return ring.wait_cqe()


def test_lend_and_recycle(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """More messages than buffers: each buffer is used again and again."""
    ours, theirs = pair
    group = ring.open_group(2, 100)
    for number in range(10):
        theirs.send(b"message %d" % number)
        completion = receive(ring, group, ours)
        with group.lend(completion) as data:
            assert data == b"message %d" % number
            assert group.lent == 1
        assert group.lent == 0


def test_a_lent_buffer_cannot_outlive_its_loan(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    group = ring.open_group(1, 100)
    theirs.send(b"data")
    loan = group.lend(receive(ring, group, ours))
    kept = None
    with pytest.raises(BufferError, match="1 views"), loan as data:
        kept = data[1:]
    # It is still lent, so these are still the same bytes.
    assert (bytes(kept), group.lent, len(loan)) == (b"ata", 1, 4)
    assert receive(ring, group, ours).res == -errno.ENOBUFS
    kept.release()
    loan.recycle()
    loan.recycle()
    assert group.lent == 0
    with pytest.raises(BufferError, match="was recycled"):
        memoryview(loan)
    theirs.send(b"more")
    with group.lend(receive(ring, group, ours)) as data:
        assert data == b"more"
        with pytest.raises(ValueError, match="released"):
            # Its first view is gone as well.
            kept[0]


def test_a_loan_that_is_dropped_is_recycled(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    group = ring.open_group(1, 100)
    for _ in range(3):
        theirs.send(b"data")
        view = memoryview(group.lend(receive(ring, group, ours)))
        assert (view, group.lent) == (b"data", 1)
        del view
        gc.collect()
        assert group.lent == 0


def test_a_completion_is_lent_once(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """A second loan would give the kernel one buffer twice, also after the first was recycled."""
    ours, theirs = pair
    group = ring.open_group(2, 100)
    theirs.send(b"data")
    completion = receive(ring, group, ours)
    loan = group.lend(completion)
    with pytest.raises(ValueError, match="was lent before"):
        group.lend(completion)
    loan.recycle()
    with pytest.raises(ValueError, match="was lent before"):
        group.lend(completion)
    assert group.lent == 0
    for number in range(3):
        theirs.send(b"%d" % number)
        with group.lend(receive(ring, group, ours)) as data:
            assert data == b"%d" % number


def test_an_exception_in_the_block(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """It is the one that is seen, and the buffer comes back, at the latest with the traceback's end."""
    ours, theirs = pair
    group = ring.open_group(1, 100)
    theirs.send(b"data")
    loan = group.lend(receive(ring, group, ours))
    with pytest.raises(ZeroDivisionError), loan:
        raise ZeroDivisionError
    assert group.lent == 0


def test_no_buffer_left(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    """ENOBUFS, and the bytes stay in the socket."""
    ours, theirs = pair
    group = ring.open_group(1, 4)
    theirs.send(b"12345678")
    first = group.lend(receive(ring, group, ours))
    completion = receive(ring, group, ours)
    assert (completion.res, completion.buffer_id) == (-errno.ENOBUFS, None)
    with pytest.raises(ValueError, match="has no buffer"):
        group.lend(completion)
    first.recycle()
    with group.lend(receive(ring, group, ours)) as data:
        assert data == b"5678"


@needs("multishot receives")
def test_multishot_ends_without_buffers(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    group = ring.open_group(2, 4)
    sqe = ring.get_sqe()
    sqe.prep(Opcode.RECV, ours.fileno(), flags=SqeFlag.BUFFER_SELECT, buf_index=group.group_id, ioprio=MULTISHOT)
    ring.submit()
    theirs.send(b"abcdefghijkl")
    completions = list(ring.completions())
    assert [completion.res for completion in completions] == [4, 4, -errno.ENOBUFS]
    assert [completion.more for completion in completions] == [True, True, False]
    assert [bytes(group.lend(completion)) for completion in completions[:2]] == [b"abcd", b"efgh"]
    assert theirs.send(b"") == 0
    with group.lend(receive(ring, group, ours)) as data:
        assert data == b"ijkl"


def test_several_groups(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    small, large = ring.open_group(2, 4), ring.open_group(2, 400)
    for group, size in ((small, 4), (large, 96)):
        theirs.send(bytes(100 if group is small else 0))
        completion = receive(ring, group, ours)
        assert completion.res == size
        group.lend(completion).recycle()


def test_a_group_that_is_closed(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    group = ring.open_group(2, 4)
    theirs.send(b"data")
    loan = group.lend(receive(ring, group, ours))
    group.close()
    group.close()
    assert bytes(loan) == b"data"
    loan.recycle()
    assert receive(ring, group, ours).res == -errno.ENOBUFS


def test_a_loan_outlives_the_ring(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with Ring(8) as ring:
        group = ring.open_group(2, 4)
        theirs.send(b"data")
        loan = group.lend(receive(ring, group, ours))
    assert bytes(loan) == b"data"
    loan.recycle()


def test_a_child_has_a_copy_of_what_was_lent(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    group = ring.open_group(2, 4)
    theirs.send(b"data")
    with group.lend(receive(ring, group, ours)) as data:
        child = os.fork()
        if child == 0:
            os._exit(0 if data == b"data" else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(("count", "size"), [(0, 1), (3, 1), (65536, 1), (1, 0), (1, 1 << 31)])
def test_sizes_are_checked(ring: Ring, count: int, size: int) -> None:
    with pytest.raises(ValueError, match=r"power of two|at least one byte"):
        ring.open_group(count, size)


@needs("SOCK_NONEMPTY for groups")
def test_completions_say_that_there_is_more(ring: Ring, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    group = ring.open_group(4, 2)
    theirs.send(b"data")
    completion = receive(ring, group, ours)
    assert completion.flags & CqeFlag.SOCK_NONEMPTY
    group.lend(completion).recycle()
