"""Addresses of each family, packed and unpacked as the socket module does it.

A library that is loaded before libc shows the sockaddr that the socket module makes for bind(2), and gives it to
getsockname(2).  So the kernel need not have the family.
"""

import subprocess
import sys
from pathlib import Path

from tests.children import ROOT, environment

_LIBRARY = r"""
#include <string.h>
#include <sys/socket.h>

static char kept[128];
static socklen_t kept_bytes;
int bind(int fd, const struct sockaddr *address, socklen_t size_bytes)
{
    (void)fd;
    memcpy(kept, address, kept_bytes = size_bytes);
    return 0;
}

int getsockname(int fd, struct sockaddr *address, socklen_t *size_bytes)
{
    (void)fd;
    memcpy(address, kept, kept_bytes);
    *size_bytes = kept_bytes;
    return 0;
}

void give(const char *from, int size_bytes)
{
    memcpy(kept, from, kept_bytes = (socklen_t)size_bytes);
}

int take(char *into)
{
    memcpy(into, kept, kept_bytes);
    return (int)kept_bytes;
}
"""
_PROGRAM = """
import ctypes, socket, sys
from uringloop.operations import address

taken = ctypes.create_string_buffer(128)
give, take = ctypes.CDLL(sys.argv[1]).give, ctypes.CDLL(sys.argv[1]).take
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for family, proto, names in (
    (socket.AF_INET, 0, [("127.0.0.1", 80), ("255.255.255.255", 0)]),
    (socket.AF_INET6, 0, [("::1", 80), ("fe80::1", 65535, 7, 3)]),
    (socket.AF_UNIX, 0, ["/tmp/x", "", b"\\0abstract\\0"]),
    (socket.AF_NETLINK, 0, [(0, 0), (7, 1 << 31)]),
    (socket.AF_PACKET, 0, [("lo", 3), ("lo", 0x88B5, 4), ("lo", 1, 2, 772), ("lo", 0x86DD, 1, 2, b"12345678")]),
    (socket.AF_PACKET, 0, [("lo", 3, 0, 0, b"123456")]),
    (socket.AF_VSOCK, 0, [(2, 1024), (socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)]),
    (socket.AF_CAN, socket.CAN_RAW, [("lo",), ("",)]),
    (socket.AF_CAN, socket.CAN_BCM, [("lo",)]),
    (socket.AF_CAN, socket.CAN_ISOTP, [("lo", 0x123, 0x98DADAF1)]),
    (socket.AF_CAN, socket.CAN_J1939, [("lo", socket.J1939_NO_NAME, socket.J1939_NO_PGN, 0x20), ("lo", 1, 2, 3)]),
):
    sock = socket.socket(family, socket.SOCK_RAW, proto, fileno=own.fileno())
    for name in names:
        sock.bind(name)
        size = take(taken)
        raw = taken.raw[:size]
        expected = sock.getsockname()
        packed = address.pack(family, name, own.fileno(), proto)
        # The bytes of gaps between fields differ, so the socket module reads the packed address.
        give(packed, len(packed))
        assert (len(packed), sock.getsockname()) == (size, expected), (family, name, packed, raw)
        assert address.unpack(raw, own.fileno(), proto) == expected, (family, name, raw, expected)
        print(family, name)
    sock.detach()
"""


def test_as_the_socket_module_does(tmp_path: Path) -> None:
    source, library = tmp_path / "sockaddr.c", tmp_path / "sockaddr.so"
    source.write_text(_LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", source, "-o", library], check=True)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, library],
        cwd=ROOT,
        env=environment(LD_PRELOAD=str(library)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 22
