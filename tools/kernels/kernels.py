"""Debian's kernels: their packages, fetched once, and the modules that a guest needs."""

import lzma
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Where everything but the page is kept.
HOME = ROOT / ".kernels"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: The suites whose kernels are tested, oldest first.  That of sid, 7.2, panics under emulation before it starts.
SUITES = ("bullseye", "bookworm", "trixie", "experimental")
#: What finds the disks and their file system, and what tests of rarer sockets need.
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "vsock_loopback", "sctp")


@dataclass(frozen=True)
class Kernel:
    """One suite's kernel, unpacked."""

    suite: str
    folder: Path

    @property
    def image(self) -> Path:
        return next(path for path in self.folder.rglob("vmlinuz*") if path.is_file() and not path.is_symlink())

    def modules(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the bytes of each module in the order of loading; what is built in is left out."""
        files = {_name(path): path for path in sorted(self.folder.rglob("*.ko*"))}
        loaded: set[str] = set()
        for module in MODULES:
            yield from _with_needs(module, files, loaded)


def fetch(suite: str) -> Kernel:
    """Return a suite's kernel; its packages are fetched at the first call."""
    kernel = Kernel(suite, HOME / suite / "files")
    if not kernel.folder.exists():
        update(suite)
        unpack(suite, list(_packages_of_kernel(suite)), kernel.folder)
    return kernel


def update(suite: str) -> None:
    """Fetch the index of a suite."""
    subprocess.run(["apt-get", *_options(suite), "update"], check=True)


def unpack(suite: str, packages: list[str], folder: Path) -> None:
    """Fetch packages, without those that they depend on, and unpack them into a folder; the index is there."""
    archives = HOME / suite / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", *_options(suite), "download", *packages], check=True, cwd=archives)
    begun = folder.with_suffix(".begun")
    begun.mkdir(parents=True, exist_ok=True)
    for package in packages:
        archive = next(archives.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "--extract", archive, begun], check=True)
    begun.rename(folder)


def _packages_of_kernel(suite: str) -> Iterator[str]:
    """Yield the packages that have the kernel and its modules, which newer suites keep apart."""
    seen, left = set(), ["linux-image-amd64"]
    while left:
        package = left.pop()
        seen.add(package)
        told = subprocess.check_output(["apt-cache", *_options(suite), "depends", package], text=True)
        needed = re.findall(r"^ *Depends: (linux-(?:image|binary|modules)-\S+)", told, flags=re.M)
        left += [name for name in needed if name not in seen]
        # One without a version only names the newest.
        if re.search(r"\d+\.\d+", package):
            yield package


def _options(suite: str) -> list[str]:
    """Return the options that give apt an index of its own for a suite: the machine's sources stay as they are."""
    apt = HOME / suite / "apt"
    for name in ("parts", "lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "parts/only.sources").write_text(
        f"Types: deb\nURIs: {MIRROR}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\nArchitectures: amd64\n"
    )
    (apt / "status").touch()
    options = ["Dir::Etc::SourceList=/dev/null", f"Dir::Etc::SourceParts={apt}/parts", f"Dir::State::Lists={apt}/lists"]
    options += [f"Dir::State::status={apt}/status", f"Dir::Cache={apt}/cache"]
    options += ["APT::Architecture=amd64", "APT::Sandbox::User=root"]
    return ["-qq", *(f"-o{option}" for option in options)]


def _name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _with_needs(module: str, files: dict[str, Path], loaded: set[str]) -> Iterator[tuple[str, bytes]]:
    if module in loaded or module not in files:
        return
    loaded.add(module)
    path = files[module]
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    for needed in re.findall(rb"\0depends=([^\0]*)", data):
        for name in filter(None, needed.decode().split(",")):
            yield from _with_needs(name.replace("-", "_"), files, loaded)
    yield module, data
