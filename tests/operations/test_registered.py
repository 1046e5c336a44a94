"""Operations on registered buffers, files and groups, and descriptors that live in the ring alone."""

import asyncio
import errno
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.housekeeping import open_descriptors
from tests.kernel import needs
from tests.loop.helpers import listening_socket, socket_pair
from tests.operations.covering import fails, works
from tests.operations.helpers import opened, pipe, refused, running_loop, submit
from tests.variants import BACKENDS
from uringloop.operations import (
    ANY_SLOT,
    Accept,
    Chain,
    Close,
    Fstat,
    Fsync,
    InstallFile,
    MakePipe,
    MakeSocket,
    Open,
    OpenWithin,
    ProvideBuffers,
    Read,
    ReadFixed,
    ReadVectorFixed,
    ReceiveInto,
    RemoveBuffers,
    SendAll,
    SendFile,
    SendZeroCopy,
    Slot,
    Splice,
    UpdateFiles,
    Write,
    WriteFixed,
    WriteVectorFixed,
)
from uringloop.operations.file import Descriptor
from uringloop.ring import Ring, allocate

pytestmark = pytest.mark.asyncio(loop_factories=BACKENDS)


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with allocate(8192) as mapped:
        yield mapped


# Buffers


@works(ReadFixed, WriteFixed, ReadVectorFixed, WriteVectorFixed)
async def test_parts_of_a_registered_buffer(tmp_path: Path, memory: mmap.mmap) -> None:
    table = running_loop().ring.register_buffers([memory])
    with opened(tmp_path / "file") as fd, memoryview(memory) as view:
        memory[:6] = b"abcdef"
        assert await submit(WriteFixed(fd, view[:6], 0, 0)) == 6
        assert await submit(WriteVectorFixed(fd, [view[3:6], view[0:3]], 0, 6)) == 6
        assert await submit(ReadFixed(fd, view[4096:4108], 0, 0)) == 12
        assert memory[4096:4108] == b"abcdefdefabc"
        assert await submit(ReadVectorFixed(fd, [view[100:104], view[200:204]], 0, 0)) == 8
        assert memory[100:104] + memory[200:204] == b"abcdefde"
        assert await submit(WriteFixed(fd, view[:2], 0, 0, os.RWF_DSYNC)) == 2
    table.unregister()


@fails(ReadFixed, WriteFixed, ReadVectorFixed, WriteVectorFixed)
async def test_memory_that_is_not_registered(tmp_path: Path, memory: mmap.mmap) -> None:
    with opened(tmp_path / "file") as fd:
        kinds = (ReadFixed, WriteFixed)
        for kind in kinds:
            await refused(kind(fd, bytearray(10), 0, 0), errno.EFAULT)
        for vectors in (ReadVectorFixed, WriteVectorFixed):
            await refused(vectors(fd, [bytearray(10)], 0, 0), errno.EFAULT)
        table = running_loop().ring.register_buffers([memory])
        for kind in kinds:
            await refused(kind(fd, bytearray(10), 0, 0), errno.EFAULT)
            await refused(kind(fd, memory, 1, 0), errno.EFAULT)
        for vectors in (ReadVectorFixed, WriteVectorFixed):
            await refused(vectors(fd, [bytearray(10)], 0, 0), errno.EFAULT)
        table.unregister()


@works(SendZeroCopy)
async def test_a_registered_buffer_is_sent(memory: mmap.mmap) -> None:
    table = running_loop().ring.register_buffers([memory])
    memory[:5] = b"hello"
    with socket_pair() as (left, right), memoryview(memory) as view, view[:5] as part:
        received = asyncio.create_task(running_loop().sock_recv(right, 10))
        assert await submit(SendZeroCopy(left.fileno(), part, index=0)) == 5
        assert await received == b"hello"
    table.unregister()


# Files


@works(UpdateFiles, InstallFile)
async def test_files_in_the_table(tmp_path: Path) -> None:
    loop = running_loop()
    table = loop.ring.register_files(4)
    with opened(tmp_path / "file") as fd:
        assert await submit(UpdateFiles(Slot(1), [fd, fd])) == 2
    # The table has its own.
    assert await submit(Write(Slot(1), b"through a slot", 0)) == 14
    buffer = bytearray(7)
    assert await submit(Read(Slot(2), buffer, 0)) == 7
    assert buffer == b"through"
    await submit(Fsync(Slot(1)))
    fd = await submit(InstallFile(Slot(2)))
    assert not os.get_inheritable(fd)
    assert os.pread(fd, 100, 8) == b"a slot"
    os.close(fd)
    fd = await submit(InstallFile(Slot(2), inheritable=True))
    assert os.get_inheritable(fd)
    os.close(fd)
    assert await submit(UpdateFiles(Slot(1), [-1])) == 1
    await refused(Write(Slot(1), b"x", 0), errno.EBADF)
    table.unregister()


@fails(UpdateFiles, InstallFile)
async def test_no_table_and_no_file() -> None:
    await refused(UpdateFiles(Slot(0), [0]), errno.ENXIO)
    await refused(InstallFile(Slot(0)), errno.EBADF)
    table = running_loop().ring.register_files(2)
    await refused(UpdateFiles(Slot(2), [0]), errno.EINVAL)
    await refused(UpdateFiles(Slot(0), [12345]), errno.EBADF)
    await refused(InstallFile(Slot(0)), errno.EBADF)
    table.unregister()


@needs(MakePipe, "registered files")
async def test_descriptors_that_only_the_ring_has(tmp_path: Path) -> None:
    loop = running_loop()
    table = loop.ring.register_files(8)
    before = len(open_descriptors())
    slot = await submit(Open(str(tmp_path / "file"), os.O_RDWR | os.O_CREAT, slot=ANY_SLOT))
    other = await submit(OpenWithin(tmp_path / "file", os.O_RDONLY, slot=Slot(5)))
    assert (type(slot), slot, other) == (Slot, 0, Slot(5))
    assert await submit(Write(slot, b"content", 0)) == 7
    assert await submit(Read(other, buffer := bytearray(7), 0)) == 7
    assert buffer == b"content"
    reading, writing = await submit(MakePipe(slot=ANY_SLOT))
    assert isinstance(writing, Slot)
    assert await submit(Write(writing, b"piped")) == 5
    assert await submit(Read(reading, buffer := bytearray(5))) == 5
    assert buffer == b"piped"
    assert (await submit(MakePipe(slot=Slot(2)))) == (Slot(2), Slot(3))
    assert len(open_descriptors()) == before
    for each in (slot, other, reading, writing, Slot(2), Slot(3)):
        assert await submit(Close(each)) == 0
    await refused(Close(slot), errno.EBADF)
    table.unregister()


@needs("registered files")
async def test_sockets_that_only_the_ring_has() -> None:
    loop = running_loop()
    table = loop.ring.register_files(4)
    with listening_socket() as listener:
        listener.setblocking(False)
        client = await submit(MakeSocket(socket.AF_INET, socket.SOCK_STREAM, slot=Slot(3)))
        assert client == Slot(3)
        with socket.create_connection(listener.getsockname()) as peer:
            accepted, name = await submit(Accept(listener.fileno(), slot=ANY_SLOT))
            assert isinstance(accepted, Slot)
            assert name == peer.getsockname()
            assert await submit(SendAll(accepted, b"hello")) == 5
            assert peer.recv(10) == b"hello"
            peer.send(b"answer")
            assert await submit(ReceiveInto(accepted, bytearray(10))) == 6
            await submit(Close(accepted))
            assert peer.recv(10) == b""
        async with loop.submit_multishot(Accept(listener.fileno(), slot=ANY_SLOT)) as connections:
            with socket.create_connection(listener.getsockname()) as peer:
                await submit(Close(await anext(connections)))
                assert peer.recv(10) == b""
            left = socket.create_connection(listener.getsockname())
            await asyncio.sleep(0.001)
        # What nobody took was closed.
        with left:
            assert await asyncio.to_thread(left.recv, 1) == b""
    table.unregister()


@needs("registered files")
async def test_a_full_table(tmp_path: Path) -> None:
    table = running_loop().ring.register_files(1)
    slot = await submit(Open(str(tmp_path), os.O_RDONLY, slot=ANY_SLOT))
    await refused(Open(str(tmp_path), os.O_RDONLY, slot=ANY_SLOT), errno.ENFILE)
    await submit(Close(slot))
    table.unregister()


@needs("registered files")
async def test_open_write_close_in_one_chain(tmp_path: Path) -> None:
    """Each part names the slot before there is a file in it."""
    table = running_loop().ring.register_files(1)
    slot = Slot(0)
    chain = Chain([Open(str(tmp_path / "file"), os.O_WRONLY | os.O_CREAT, slot=slot), Write(slot, b"chained", 0)])
    chain.add(Fsync(slot)).add(Close(slot))
    assert await running_loop().submit_chain(chain) == [slot, 7, 0, 0]
    assert (tmp_path / "file").read_bytes() == b"chained"
    table.unregister()


@needs("registered files")
async def test_an_open_that_nobody_awaits_leaves_its_slot_empty(tmp_path: Path) -> None:
    table = running_loop().ring.register_files(1)
    for turns in range(4):
        task = asyncio.create_task(submit(Open(str(tmp_path), os.O_RDONLY, in_worker=True, slot=ANY_SLOT)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    # There is room for the one that somebody awaits.
    slot = await submit(Open(str(tmp_path), os.O_RDONLY, slot=ANY_SLOT))
    await submit(Close(slot))
    table.unregister()


@works(SendFile)
async def test_a_file_for_another_ring(tmp_path: Path) -> None:
    ours = running_loop().ring.register_files(1)
    (tmp_path / "file").write_bytes(b"content")
    with Ring() as other:
        theirs = other.register_files(2)
        slot = await submit(Open(str(tmp_path / "file"), os.O_RDONLY, slot=ANY_SLOT))
        there = await submit(SendFile(other.fd, slot, 0x100))
        assert other.wait_cqe().number == 0x100
        assert other.run(Read(there, buffer := bytearray(7), 0)) == 7
        assert buffer == b"content"
        assert await submit(SendFile(other.fd, slot, 0x100, Slot(1))) == Slot(1)
        assert other.run(Close(there)) == 0
        theirs.unregister()
    await submit(Close(slot))
    ours.unregister()


@fails(SendFile)
async def test_a_file_that_is_not_there_for_another_ring() -> None:
    ours = running_loop().ring.register_files(1)
    with Ring() as other, pipe() as (reading, _):
        await refused(SendFile(other.fd, Slot(0), 0x100), errno.EBADF)
        await refused(SendFile(reading, Slot(0), 0x100), errno.EBADFD)
    for number in (-1, 1 << 60):
        with pytest.raises(ValueError, match="60 bits"):
            SendFile(-1, Slot(0), number)
    ours.unregister()


# Provided buffers


@works(ProvideBuffers, RemoveBuffers)
async def test_buffers_are_given_and_taken_back() -> None:
    memory = bytearray(400)
    giving = ProvideBuffers(memory, 100, group_id=77)
    assert await submit(giving) is None
    with pytest.raises(BufferError):
        memory.clear()
    assert await submit(RemoveBuffers(3, 77)) == 3
    assert await submit(RemoveBuffers(3, 77)) == 1


@fails(ProvideBuffers, RemoveBuffers)
async def test_buffers_that_nobody_gave() -> None:
    await refused(RemoveBuffers(1, 78), errno.ENOENT)
    ours, peer = socket.socketpair()
    with peer:
        # The first connection brings the loop's own group.
        _, writer = await asyncio.open_connection(sock=ours)
        await refused(ProvideBuffers(bytearray(10), 5, group_id=0), errno.EINVAL)
        writer.close()
        await writer.wait_closed()
    with pytest.raises(ValueError, match="at least one"):
        ProvideBuffers(bytearray(10), 11, group_id=1)


@works(Fstat)
async def test_status_of_a_file_by_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with opened(tmp_path / "file") as fd:
        assert (await submit(Fstat(fd))).size_bytes == 7


@fails(Fstat, Splice)
async def test_status_of_nothing() -> None:
    await refused(Fstat(-1), errno.EBADF)
    with pipe() as (_, writing):
        nothing, target = Descriptor(-1, owned=False), Descriptor(writing, owned=False)
        await refused(Splice(nothing, target, 1), errno.EBADF)
