"""Work that several threads may do at the same time, each with a loop of its own: see `tools/free-threaded`."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

import uringloop
from tests.variants import BACKENDS, FACTORIES
from uringloop import files
from uringloop.operations import address


@pytest.mark.parametrize("variant", BACKENDS)
def test_a_loop_carries_bytes(variant: str) -> None:
    async def echo() -> bytes:
        left, right = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=left)
        other_reader, other_writer = await asyncio.open_connection(sock=right)
        writer.write(b"there")
        other_writer.write((await other_reader.readexactly(5)) + b" and back")
        answer = await reader.readexactly(14)
        for each in (writer, other_writer):
            each.close()
            await each.wait_closed()
        return answer

    with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
        assert runner.run(echo()) == b"there and back"


def test_files_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / str(threading.get_ident())

    async def copy() -> list[str]:
        async with files.open(path, "w") as file:
            await file.writelines(f"line {number}\n" for number in range(1000))
        async with files.open(path) as file:
            return [line async for line in file]

    assert len(uringloop.run(copy())) == 1000


def test_names_are_looked_up() -> None:
    async def look_up() -> list[object]:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo("localhost", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)

    assert uringloop.run(look_up())[0][4] == ("127.0.0.1", 80)  # type: ignore[index]


def test_addresses_are_packed_and_unpacked() -> None:
    for port in range(1, 1000):
        packed = address.pack(socket.AF_INET, ("127.0.0.1", port))
        assert packed is not None
        assert address.unpack(packed) == ("127.0.0.1", port)
