"""Chains: what runs after what, and what a broken one says, at each place."""

import asyncio
import errno
import os
import select
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import needs
from tests.operations.covering import works
from tests.operations.helpers import opened, pipe, running_loop, submit
from tests.variants import BACKENDS, TINY
from uringloop.operations import (
    Chain,
    ChainError,
    Close,
    Fsync,
    LinkTimeout,
    Nop,
    Open,
    Operation,
    Read,
    Ready,
    Timeout,
    TimeoutUpdate,
    Write,
)
from uringloop.ring import SqeFlag

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)
LONG_NS = 3600 * 10**9
CANCELLED = OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))


def plain(results: list[Any]) -> list[Any]:
    """Results that can be compared: of an OSError its errno, negative."""
    return [-(one.errno or 0) if isinstance(one, OSError) else one for one in results]


async def broken(chain: Chain | list[Operation]) -> ChainError:
    with pytest.raises(ChainError) as caught:
        await running_loop().submit_chain(chain)
    return caught.value


async def test_write_write_fsync(tmp_path: Path) -> None:
    with opened(tmp_path / "file") as fd:
        parts = [Write(fd, b"one", 0), Write(fd, b"two", 3), Fsync(fd)]
        assert await running_loop().submit_chain(parts) == [3, 3, 0]
    assert (tmp_path / "file").read_bytes() == b"onetwo"


@needs("results of NOP")
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("kind", ["kernel", "at once"])
async def test_a_chain_broken_at_each_place(place: int, kind: str) -> None:
    """By an operation that runs and fails, and by one that the kernel refuses as it is submitted."""
    parts: list[Operation] = [Nop() for _ in range(4)]
    parts[place] = Nop(-errno.ENOSPC) if kind == "kernel" else LinkTimeout(LONG_NS)
    number = errno.ENOSPC if kind == "kernel" else errno.EINVAL
    if kind == "at once" and place > 0:
        # A link timeout that is not alone belongs to the part before it: it takes another refusal.
        parts[place] = Timeout(1, clock=12)  # type: ignore[arg-type]
    error = await broken(parts)
    assert error.failed == place
    assert error.errno == number
    assert f"part {place} of the chain ({type(parts[place]).__name__}) failed: {os.strerror(number)}" in str(error)
    assert isinstance(error.__cause__, OSError)
    if kind == "kernel":
        assert error.cancelled == list(range(place + 1, 4))
        assert plain(error.results) == [0] * place + [-number] + [-errno.ECANCELED] * (3 - place)
    else:
        # Refused as a whole: none of the others has run.
        assert error.cancelled == [other for other in range(4) if other != place]


async def test_a_short_read_breaks_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with opened(tmp_path / "file") as fd:
        error = await broken([Nop(), Read(fd, bytearray(10), 0), Nop(), Nop()])
    assert (error.failed, error.cancelled, error.errno) == (1, [2, 3], None)
    assert plain(error.results)[:2] == [0, 5]
    assert str(error) == "part 1 of the chain (Read) moved less than was asked for: 5; cancelled: 2, 3"


async def test_errors_have_the_filename(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    error = await broken([Nop(), Open(missing, os.O_RDONLY), Nop()])
    assert (error.failed, error.filename, error.errno) == (1, missing, errno.ENOENT)


@needs("results of NOP")
async def test_a_hard_link_goes_on() -> None:
    chain = Chain().add(Nop(-errno.EIO), hard=True).add(Nop(7), hard=True).add(Nop(-errno.EPERM)).add(Nop())
    error = await broken(chain)
    assert plain(error.results) == [-errno.EIO, 7, -errno.EPERM, -errno.ECANCELED]
    assert (error.failed, error.cancelled) == (0, [3])


@needs("results of NOP")
@works(LinkTimeout)
async def test_a_part_with_a_timeout() -> None:
    with pipe() as (reading, writing):
        os.write(writing, b"x")
        chain = Chain().add(Ready(reading, select.POLLIN), timeout_ns=LONG_NS).add(Nop(3))
        assert await running_loop().submit_chain(chain) == [select.POLLIN, 3]
        os.read(reading, 1)
        chain = Chain([Nop(1)]).add(Ready(reading, select.POLLIN), timeout_ns=1_000_000).add(Nop())
        error = await broken(chain)
    assert isinstance(error.results[1], TimeoutError)
    assert isinstance(error.__cause__, TimeoutError)
    assert (error.failed, error.cancelled, error.errno) == (1, [2], errno.ETIMEDOUT)


@works(LinkTimeout)
async def test_a_timeout_behind_a_hard_link_and_at_the_end() -> None:
    with pipe() as (reading, writing):
        chain = Chain().add(Ready(reading, select.POLLIN), hard=True, timeout_ns=1000)
        chain.add(Ready(writing, select.POLLOUT), timeout_ns=LONG_NS)
        error = await broken(chain)
    assert isinstance(error.results[0], TimeoutError)
    assert error.results[1] == select.POLLOUT


@works(LinkTimeout)
async def test_a_link_timeout_belongs_to_the_part_before_it() -> None:
    timeout = LinkTimeout(LONG_NS)
    with pipe() as (reading, _):
        chain = Chain([Nop(), Ready(reading, select.POLLIN), timeout, Nop()])
        waiting = asyncio.ensure_future(broken(chain))
        await submit(Nop())
        await submit(TimeoutUpdate(timeout, 1000))
        error = await waiting
    assert isinstance(error.results[1], TimeoutError)
    assert (error.failed, error.cancelled, len(error.results)) == (1, [2], 3)
    assert running_loop().statistics()["in_flight"] == 0


async def test_a_link_timeout_with_options_is_refused() -> None:
    timeout = LinkTimeout(LONG_NS)
    options: list[dict[str, Any]] = [{"drain": True}, {"skip_success": True}, {"timeout_ns": 1}]
    for option in options:
        with pytest.raises(ValueError, match="belongs to the part before it"):
            Chain([Nop()]).add(timeout, **option)
    with pytest.raises(ValueError, match="only once"):
        Chain([Nop(), timeout]).add(timeout)
    assert await running_loop().submit_chain(Chain([Nop()]).add(timeout, hard=True).add(Nop())) == [0, 0]


# Quiet parts


@needs("results of NOP")
@pytest.mark.parametrize("skipping", range(1, 4))
async def test_parts_that_skip_success_and_end_well(skipping: int) -> None:
    chain = Chain()
    for number in range(4):
        chain.add(Nop(number + 1), skip_success=number < skipping)
    results = await running_loop().submit_chain(chain)
    assert results == [None] * skipping + [number + 1 for number in range(skipping, 4)]
    assert running_loop().statistics()["in_flight"] == 0


@needs("results of NOP")
@pytest.mark.parametrize("place", range(4))
async def test_parts_that_skip_success_broken_at_each_place(place: int) -> None:
    chain = Chain()
    for number in range(4):
        chain.add(Nop(-errno.EIO if number == place else 0), skip_success=number < 3, timeout_ns=LONG_NS)
    error = await broken(chain)
    assert (error.failed, error.cancelled) == (place, list(range(place + 1, 4)))
    assert plain(error.results[:place]) == [None] * place


@needs("results of NOP")
async def test_parts_that_skip_success_with_hard_links() -> None:
    chain = Chain().add(Nop(-errno.EIO), hard=True, skip_success=True).add(Nop(), skip_success=True).add(Nop(5))
    error = await broken(chain)
    assert (error.failed, plain(error.results)) == (0, [-errno.EIO, None, 5])


async def test_a_part_that_skips_success_and_is_short(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with opened(tmp_path / "file") as fd:
        error = await broken(Chain().add(Read(fd, bytearray(10), 0), skip_success=True).add(Nop()))
    assert (error.failed, error.cancelled, error.results[0]) == (0, [1], 5)


async def test_parts_that_cannot_skip_success() -> None:
    with pytest.raises(ValueError, match="result would be lost"):
        Chain().add(Open("/dev/null", os.O_RDONLY), skip_success=True)
    with pytest.raises(ValueError, match="cannot follow"):
        Chain([Nop()]).add(Nop(), skip_success=True)
    with pytest.raises(ValueError, match="last part"):
        await running_loop().submit_chain(Chain().add(Nop(), skip_success=True))


# Wrong use


async def test_wrong_chains() -> None:
    loop = running_loop()
    with pytest.raises(ValueError, match="needs a part"):
        await loop.submit_chain([])
    nop = Nop()
    with pytest.raises(ValueError, match="only once"):
        await loop.submit_chain([nop, nop])
    with pytest.raises(ValueError, match="longer than the submission queue"):
        await loop.submit_chain([Nop() for _ in range(1000)])
    chain = Chain([Nop()])
    await loop.submit_chain(chain)
    with pytest.raises(RuntimeError, match="was submitted"):
        await loop.submit_chain(chain)
    with pytest.raises(RuntimeError, match="was submitted"):
        chain.add(Nop())
    with pytest.raises(ValueError, match="drain"):
        await loop.submit_chain(Chain().add(Nop(), drain=True))


@pytest.mark.parametrize("flag", [SqeFlag.IO_LINK, SqeFlag.IO_HARDLINK, SqeFlag.CQE_SKIP_SUCCESS, SqeFlag.IO_DRAIN])
async def test_only_chains_link(flag: SqeFlag) -> None:
    nop = Nop()
    nop.modifiers |= flag
    with pytest.raises(ValueError, match=r"Chain|drain"):
        await submit(nop)
    with pytest.raises(ValueError, match=r"Chain|drain"):
        await running_loop().submit_many([nop])


@needs("results of NOP")
@pytest.mark.asyncio(loop_factories=TINY)
async def test_a_chain_does_not_straddle_two_submits() -> None:
    """The queue has four places: three of them are taken when the chain of three comes."""
    loop = running_loop()
    for _ in range(5):
        others = [asyncio.create_task(loop.submit(Nop())) for _ in range(3)]
        chain = asyncio.create_task(loop.submit_chain([Nop(), Nop(-errno.EIO), Nop()]))
        await asyncio.wait([*others, chain])
        error = chain.exception()
        assert isinstance(error, ChainError)
        assert (error.failed, error.cancelled) == (1, [2])


# Cancelling


@pytest.mark.parametrize("turns", range(1, 4))
async def test_a_cancelled_chain_lets_go_of_everything(turns: int) -> None:
    with pipe() as (reading, writing):
        buffer, later = bytearray(5), bytearray(5)
        parts = [Nop(), Read(reading, buffer), Write(writing, later), Timeout(LONG_NS)]
        task = asyncio.create_task(running_loop().submit_chain(parts))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        buffer.clear()
        later.clear()


async def test_what_begins_after_the_cancel_is_cancelled_too(tmp_path: Path) -> None:
    """The first part cannot be cancelled, and the second cannot be found before it is over."""
    with opened(tmp_path / "file") as fd:
        chain = Chain().add(Write(fd, bytes(1 << 20), 0)).add(Timeout(LONG_NS))
        task = asyncio.create_task(running_loop().submit_chain(chain))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_chain_disposes_of_what_it_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for turns in range(6):
        opening = Open(str(tmp_path / "file"), os.O_RDONLY)
        task = asyncio.create_task(running_loop().submit_chain([opening, Timeout(LONG_NS)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@needs("results of NOP")
async def test_results_of_a_broken_chain_are_the_callers(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = await broken([Open(str(tmp_path / "file"), os.O_RDONLY), Nop(-errno.EIO)])
    os.close(error.results[0])


@needs("results of NOP")
async def test_a_close_that_was_cancelled_closes(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    error = await broken([Nop(-errno.EIO), Close(fd)])
    assert error.failed == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
