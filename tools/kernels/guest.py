"""Boots a kernel in qemu, and fetches what its guest has left."""

import json
import shlex
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import initramfs
import root
from kernels import HOME, Kernel

_CPUS = 2
_MEMORY = "2G"
_RESULTS_SIZE_BYTES = 64 << 20
#: Pytest's exit code.
_SOME_FAILED = 1
#: On a busy machine the emulated timer ticks late, and kernels take it for dead: no_timer_check has them believe in it.
_COMMAND_LINE = "console=ttyS0 quiet panic=-1 no_timer_check tsc=unstable nowatchdog"


@dataclass(frozen=True)
class Results:
    """What a guest has left.

    Attributes:
        arguments: those of pytest.
        doctor: the doctor's report.
        tests: the record of pytest, as JUnit's XML; None if there is none.
        complete: whether pytest ran all tests, and was neither interrupted because its time was up nor killed.
    """

    arguments: list[str]
    doctor: dict[str, Any]
    tests: ElementTree.Element | None
    complete: bool


def run(kernel: Kernel, image: Path, limit_s: float) -> Results | None:
    """Boot a kernel with an image of a root, and return what it has left within the time."""
    folder = HOME / kernel.suite
    archive, disk, log = folder / "initramfs.cpio", folder / "results.tar", folder / "console.log"
    initramfs.write(archive, root.busybox(), kernel.modules())
    with disk.open("wb") as file:
        file.truncate(_RESULTS_SIZE_BYTES)
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(_CPUS), "-m", _MEMORY]
    command += ["-nographic", "-no-reboot", "-nic", "none", "-kernel", kernel.image, "-initrd", archive]
    command += ["-append", _COMMAND_LINE]
    command += ["-drive", f"file={image},format=raw,if=virtio,cache=unsafe,snapshot=on"]
    command += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
    with log.open("w") as output:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True, timeout=limit_s)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{kernel.suite}: {error.__class__.__name__}; its console is in {log}", file=sys.stderr)
    return read(kernel.suite)


def read(suite: str) -> Results | None:
    """Return the results of a suite's last guest, if it has left any."""
    folder = HOME / suite / "results"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with tarfile.open(HOME / suite / "results.tar") as archive:
            archive.extractall(folder, filter="data")
        arguments = shlex.split((folder / "arguments").read_text())
        doctor = json.loads((folder / "doctor.json").read_text())
    except (OSError, ValueError, tarfile.TarError):
        return None
    try:
        complete = int((folder / "code").read_text()) in (0, _SOME_FAILED)
        return Results(arguments, doctor, ElementTree.parse(folder / "tests.xml").getroot(), complete)
    except (OSError, ValueError, ElementTree.ParseError):
        # The time was up before pytest ended, or a signal killed it.
        return Results(arguments, doctor, None, False)
