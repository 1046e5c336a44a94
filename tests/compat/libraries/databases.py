"""The real PostgreSQL and Redis, from Debian's packages, started in a temporary folder and stopped."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tls import CERTIFICATE

from .needs import missing, program
from .processes import running

USER = "tester"
_CONNECTIONS_MAX = 100


@dataclass(frozen=True)
class Database:
    """Where a server listens: on a port of localhost, by TCP and TLS, and on a unix socket in `folder`."""

    folder: Path
    port: int
    tls_port: int


def free_ports(count: int) -> list[int]:
    """Ports of localhost that nobody listens on: these servers cannot say which one the kernel chose."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def _folder(owner: str | None) -> Iterator[Path]:
    """A temporary folder of this owner's, with a short name: a unix address has room for 108 bytes."""
    with tempfile.TemporaryDirectory() as name:
        if owner is not None:
            shutil.chown(name, owner, owner)
        yield Path(name)


def _account() -> tuple[str | None, dict[str, Any]]:
    """Who runs PostgreSQL, which refuses root, and how `subprocess` is told; nobody else if it is not root who asks."""
    if os.geteuid() != 0:
        return None, {}
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        missing("the user postgres", "apt-get install postgresql")
    return "postgres", {"user": "postgres", "group": "postgres", "extra_groups": []}


def programs() -> tuple[str, str]:
    """Return the paths of initdb and postgres, or skip."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return program("initdb", "postgresql", *folders), program("postgres", "postgresql", *folders)


@contextlib.contextmanager
def postgresql() -> Iterator[Database]:
    """A cluster of its own, whose superuser `tester` needs no password; TLS with the certificate of the tests."""
    initdb, postgres = programs()
    owner, account = _account()
    with _folder(owner) as folder:
        data = folder / "data"
        account = {**account, "cwd": folder}
        initialise = [
            initdb,
            "--no-sync",
            "--auth",
            "trust",
            "--username",
            USER,
            "--locale",
            "C",
            "-E",
            "UTF8",
            str(data),
        ]
        subprocess.run(initialise, check=True, capture_output=True, **account)
        key = folder / "server.pem"
        shutil.copyfile(CERTIFICATE, key)
        key.chmod(0o600)
        if owner is not None:
            shutil.chown(key, owner, owner)
        (port,) = free_ports(1)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "max_connections": _CONNECTIONS_MAX,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": key,
            "ssl_key_file": key,
        }
        command: list[str | Path] = [
            postgres,
            "-D",
            data,
            *(word for name in settings for word in ("-c", f"{name}={settings[name]}")),
        ]
        with running(command, account) as server:
            server.until_says("database system is ready to accept connections")
            yield Database(folder, port, port)
            # Fast shutdown: it does not wait for clients.
            server.stop(signal.SIGINT)


@contextlib.contextmanager
def redis() -> Iterator[Database]:
    """A server that keeps nothing on disk."""
    command = program("redis-server", "redis-server")
    with _folder(None) as folder:
        port, tls_port = free_ports(2)
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "tls-port": tls_port,
            "tls-cert-file": CERTIFICATE,
            "tls-key-file": CERTIFICATE,
            "tls-ca-cert-file": CERTIFICATE,
            "tls-auth-clients": "no",
            "unixsocket": folder / "socket",
            "dir": folder,
            "save": "",
        }
        arguments = [word for name in settings for word in (f"--{name}", str(settings[name]))]
        with running([command, *arguments], {"cwd": folder}) as server:
            server.until_says("(?i)ready to accept connections")
            yield Database(folder, port, tls_port)
            server.stop(signal.SIGTERM)


async def insert_both(connection: Any) -> None:
    """Insert two rows into table `t` in one transaction, of which the second is refused where 1 is in it already."""
    async with connection.transaction():
        await connection.execute("INSERT INTO t VALUES (2, '')")
        await connection.execute("INSERT INTO t VALUES (1, '')")
