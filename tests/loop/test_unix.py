"""Unix sockets: paths of all kinds, what becomes of their files, and what is refused."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.variants import RINGS, USUAL

from .helpers import Echo, Recorder, close
from .test_tls import client_context, server_context

pytestmark = pytest.mark.asyncio(loop_factories=USUAL)

_CLEANS_UP = sys.version_info >= (3, 13)
since_313 = pytest.mark.skipif(not _CLEANS_UP, reason="cleanup_socket is new in 3.13")


async def converse(path: Any) -> Recorder:
    """Connect, have something echoed, and end."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_unix_connection(Recorder, path)
    client.transport.write(b"hello")
    await client.until_received(5)
    await close(client)
    return client


@contextlib.asynccontextmanager
async def serving(path: Any, **options: Any) -> Any:
    server = await asyncio.get_running_loop().create_unix_server(Echo, path, **options)
    try:
        yield server
    finally:
        server.close()
    await server.wait_closed()


def leave_socket_file(path: Path) -> None:
    """As a server that crashed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


# Paths


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
async def test_a_path_of_any_type(folder: Path, kind: Any) -> None:
    path = kind(str(folder / "socket"))
    async with serving(path) as server:
        assert server.sockets[0].getsockname() == str(folder / "socket")
        assert (await converse(path)).received == b"hello"


@pytest.mark.parametrize("kind", [str, os.fsencode])
async def test_an_abstract_name_has_no_file(folder: Path, kind: Any) -> None:
    path = kind(f"\0{folder}/abstract")
    async with serving(path) as server:
        assert server.sockets[0].getsockname() == os.fsencode(path)
        assert (await converse(path)).received == b"hello"
        assert os.listdir(folder) == []


async def test_a_name_that_is_no_text(folder: Path) -> None:
    path = os.fsencode(folder) + b"/\xff\xfe"
    async with serving(path):
        assert (await converse(path)).received == b"hello"
        assert (await converse(os.fsdecode(path))).received == b"hello"


async def test_the_longest_path(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    room = 107 - len(f"{folder}/")
    async with serving(folder / ("x" * room)):
        assert (await converse(folder / ("x" * room))).received == b"hello"
    for path in (folder / ("x" * (room + 1)), "\0" + "x" * 108):
        with pytest.raises(OSError, match=r"AF_UNIX path too long"):
            await loop.create_unix_server(Echo, path)
        with pytest.raises(OSError, match=r"AF_UNIX path too long"):
            await loop.create_unix_connection(Recorder, path)


async def test_names_in_extra_info(folder: Path) -> None:
    path = str(folder / "socket")
    server_side = Recorder()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: server_side, path)
    _, client = await loop.create_unix_connection(Recorder, path)
    await server_side.until_called("connection_made")
    assert client.transport.get_extra_info("peername") == path
    assert client.transport.get_extra_info("sockname") == ""
    assert server_side.transport.get_extra_info("peername") == ""
    assert server_side.transport.get_extra_info("sockname") == path
    assert client.transport.get_extra_info("socket").family == socket.AF_UNIX
    await close(client, server_side)
    server.close()
    await server.wait_closed()


# The socket's file


async def test_a_socket_that_nobody_serves_is_replaced(folder: Path) -> None:
    leave_socket_file(folder / "socket")
    async with serving(folder / "socket"):
        assert (await converse(folder / "socket")).received == b"hello"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_no_socket_is_left_alone(folder: Path, kind: str) -> None:
    path = folder / "occupied"
    match kind:
        case "file":
            path.write_bytes(b"precious")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(folder / "nowhere")
    with pytest.raises(OSError, match=r"^.*Address .*occupied.* is already in use$") as refused:
        await asyncio.get_running_loop().create_unix_server(Echo, path)
    assert refused.value.errno == errno.EADDRINUSE
    assert path.is_symlink() or path.exists()


async def test_a_path_in_no_folder(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await asyncio.get_running_loop().create_unix_server(Echo, folder / "missing" / "socket")


async def test_a_stale_file_that_cannot_be_looked_at_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "file").touch()
    with caplog.at_level(logging.ERROR, "asyncio"), pytest.raises(NotADirectoryError):
        await asyncio.get_running_loop().create_unix_server(Echo, folder / "file" / "socket")
    assert "Unable to check or remove stale UNIX socket" in caplog.text


async def test_the_file_goes_with_the_server_since_python_3_13(folder: Path) -> None:
    async with serving(folder / "socket"):
        assert (folder / "socket").is_socket()
    assert (folder / "socket").exists() is not _CLEANS_UP


@since_313
async def test_the_file_stays_if_asked_for(folder: Path) -> None:
    async with serving(folder / "socket", cleanup_socket=False):
        pass
    assert (folder / "socket").is_socket()


@since_313
async def test_a_file_that_is_gone_or_another_ones_is_left_alone(folder: Path) -> None:
    path = folder / "socket"
    async with serving(path):
        path.unlink()
    async with serving(path):
        path.unlink()
        leave_socket_file(path)
    assert path.is_socket()
    async with serving(path):
        path.unlink()
        path.touch()
    assert path.is_file()


@since_313
async def test_the_file_of_a_socket_that_was_brought_goes_too(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "socket"))
        async with serving(None, sock=sock):
            assert (await converse(folder / "socket")).received == b"hello"
    assert not (folder / "socket").exists()


@since_313
async def test_only_the_server_that_made_the_file_last_removes_it(folder: Path) -> None:
    async with serving(folder / "socket"):
        async with serving(folder / "socket"):
            pass
        assert not (folder / "socket").exists()


# Refused


@pytest.mark.parametrize("ending", ["connection", "server"])
async def test_a_path_or_a_socket(folder: Path, ending: str) -> None:
    loop = asyncio.get_running_loop()
    make: Any = getattr(loop, f"create_unix_{ending}")
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(ValueError, match=r"^path and sock can not be specified at the same time$"):
            await make(Recorder, folder / "socket", sock=sock)
        with pytest.raises(ValueError, match=r"no(t specified, and no sock| path and sock were) specified$"):
            await make(Recorder, None)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("ending", ["connection", "server"])
@pytest.mark.parametrize(
    ("family", "kind"), [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)]
)
async def test_a_socket_of_another_kind(ending: str, family: int, kind: int) -> None:
    make: Any = getattr(asyncio.get_running_loop(), f"create_unix_{ending}")
    with (
        socket.socket(family, kind) as sock,
        pytest.raises(ValueError, match=r"^A UNIX Domain Stream Socket was expected"),
    ):
        await make(Recorder, None, sock=sock)


@pytest.mark.parametrize("ending", ["connection", "server"])
@pytest.mark.parametrize("path", [1, 1.5, ["socket"], object()])
async def test_a_path_of_a_wrong_type(ending: str, path: Any) -> None:
    make: Any = getattr(asyncio.get_running_loop(), f"create_unix_{ending}")
    with pytest.raises(TypeError, match=r"expected str, bytes or os.PathLike object"):
        await make(Recorder, path)


async def test_an_empty_path() -> None:
    loop = asyncio.get_running_loop()
    for path in ("", b""):
        with pytest.raises(OSError, match=r"Invalid argument"):
            await loop.create_unix_connection(Recorder, path)


async def test_a_server_that_is_not_there(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(FileNotFoundError) as missing:
        await loop.create_unix_connection(Recorder, folder / "missing")
    assert missing.value.args == (errno.ENOENT, os.strerror(errno.ENOENT))
    leave_socket_file(folder / "stale")
    with pytest.raises(ConnectionRefusedError) as refused:
        await loop.create_unix_connection(Recorder, folder / "stale")
    assert refused.value.args == (errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    (folder / "file").touch()
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(Recorder, folder / "file")
    with pytest.raises(NotADirectoryError):
        await loop.create_unix_connection(Recorder, folder / "file" / "socket")
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(Recorder, f"\0{folder}/missing")


async def test_a_server_of_datagrams(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "socket"))
        with pytest.raises(OSError, match=r"rotocol") as refused:
            await asyncio.get_running_loop().create_unix_connection(Recorder, folder / "socket")
        assert refused.value.errno == errno.EPROTOTYPE


# asyncio says that it is connected when it is not.
@pytest.mark.asyncio(loop_factories=RINGS)
async def test_a_server_with_a_full_backlog_is_waited_for(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as clients:
        listener.bind(str(folder / "socket"))
        listener.listen(0)
        listener.setblocking(False)
        socks = [clients.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)]
        for sock in socks:
            sock.setblocking(False)
        connecting = [asyncio.create_task(loop.sock_connect(sock, str(folder / "socket"))) for sock in socks]
        for _ in socks:
            conn, _ = await loop.sock_accept(listener)
            conn.close()
        await asyncio.gather(*connecting)
        assert all(sock.getpeername() == str(folder / "socket") for sock in socks)


# TLS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ssl": True}, "you have to pass server_hostname when using ssl"),
        ({"server_hostname": "localhost"}, "server_hostname is only meaningful with ssl"),
        ({"ssl_handshake_timeout": 1}, "ssl_handshake_timeout is only meaningful with ssl"),
        ({"ssl_shutdown_timeout": 1}, "ssl_shutdown_timeout is only meaningful with ssl"),
    ],
)
async def test_options_of_a_tls_connection(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        await asyncio.get_running_loop().create_unix_connection(Recorder, folder / "socket", **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ssl": True}, TypeError, "ssl argument must be an SSLContext or None"),
        ({"ssl": False}, TypeError, "ssl argument must be an SSLContext or None"),
        ({"ssl_handshake_timeout": 1}, ValueError, "ssl_handshake_timeout is only meaningful with ssl"),
        ({"ssl_shutdown_timeout": 1}, ValueError, "ssl_shutdown_timeout is only meaningful with ssl"),
    ],
)
async def test_options_of_a_tls_server(
    folder: Path, options: dict[str, Any], error: type[BaseException], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        await asyncio.get_running_loop().create_unix_server(Echo, folder / "socket", **options)
    assert os.listdir(folder) == []


async def test_a_server_hostname_is_text(folder: Path) -> None:
    with pytest.raises(AssertionError):
        await asyncio.get_running_loop().create_unix_connection(
            Recorder, folder / "socket", ssl=ssl.create_default_context(), server_hostname=b"localhost"
        )


async def test_tls_over_a_unix_socket(folder: Path) -> None:
    async with serving(folder / "socket", ssl=server_context()):
        _, client = await asyncio.get_running_loop().create_unix_connection(
            Recorder, folder / "socket", ssl=client_context(), server_hostname="localhost"
        )
        client.transport.write(b"hello")
        await client.until_received(5)
        assert client.received == b"hello"
        await close(client)
