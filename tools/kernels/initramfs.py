"""The first files of a guest, as a cpio archive: busybox, modules and `init`."""

import stat
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
_FOLDER = stat.S_IFDIR | 0o755
_PROGRAM = stat.S_IFREG | 0o755


def write(archive: Path, busybox: Path, modules: Iterable[tuple[str, bytes]]) -> None:
    """Write the archive; the modules are numbered in the order of loading."""
    entries = [(name, _FOLDER, b"") for name in ("bin", "dev", "modules", "root")]
    entries += [("bin/busybox", _PROGRAM, busybox.read_bytes()), ("init", _PROGRAM, (HERE / "init").read_bytes())]
    entries += [(f"modules/{at:02}-{name}.ko", _PROGRAM, data) for at, (name, data) in enumerate(modules)]
    entries.append(("TRAILER!!!", 0, b""))
    archive.write_bytes(b"".join(_entry(at, *entry) for at, entry in enumerate(entries)))


def _entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    """Return one entry in the format "newc": a head of numbers, the name and the data, each padded to four bytes."""
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
