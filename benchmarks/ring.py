"""What does a bare ring cost from Python?  NOPs against liburing in C, reads against fio.

    python -m benchmarks.ring --rounds 5 --json ring.json

NOPs measure everything but the work: one at a time, 32 in a system call, and with a polling thread of the kernel's,
which makes none and needs a CPU of its own.  Reads are random, of 4 KiB, from the page cache and past it, at several
queue depths, each checked to be of the right block.  Contenders take turns; ratios are against liburing in C
(benchmarks/c/ring_nops.c), and against fio.  What is not installed (liburing-dev, Python's liburing, fio) is left out
by name.  `--other` adds this project's rings in another checkout.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import files, results, ring_cases, runner
from benchmarks.results import Case

C = "liburing in C"
FIO = "fio"
#: A loop over completions, and `Ring.run_many`.
OURS, MANY = "uringloop", "uringloop run_many"
#: At the end of a contender's name: it runs in the other checkout.
OTHER = ", other"
NOPS = {
    "single": "NOPs, one at a time",
    "batch": f"NOPs, {ring_cases.BATCH} at a time",
    "sqpoll": "NOPs, polled thread",
}
READS = {"cached": "reads from the page cache", "direct": "reads with O_DIRECT"}
DEPTHS = (1, 32, 128)
QUICK_DEPTHS = (32,)
FILE_BYTES = 64 << 20
QUICK_BYTES = 1 << 20


def checkout(contender: str) -> Path:
    """Return the checkout that a contender runs in."""
    if not contender.endswith(OTHER):
        return runner.ROOT
    assert runner.other_root is not None
    return runner.other_root


def ring_case(contender: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.ring_cases", contender.removesuffix(OTHER), *arguments]


def nops(contender: str, case: str, seconds: float) -> dict[str, float]:
    if contender == C:
        command = [runner.compiled("ring_nops", "uring"), case, str(seconds)]
    else:
        command = ring_case(contender, case, str(seconds))
    root = checkout(contender)
    if case == "sqpoll":
        # On two CPUs, unlike the others.
        finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise runner.Disqualified((finished.stderr.strip() or "no output").splitlines()[-1])
        return {"value": float(finished.stdout)}
    return {"value": float(files.run(command, root))}


def reads(contender: str, case: str, path: Path, depth: int, seconds: float) -> dict[str, float]:
    if contender.startswith(OURS):
        command = ring_case(contender, case, str(seconds), str(path), str(depth))
        return {"value": float(files.run(command, checkout(contender)))}
    options = {
        "name": case,
        "filename": path,
        "rw": "randread",
        "bs": ring_cases.BLOCK_BYTES,
        "direct": int(case == "direct"),
        "invalidate": 0,
        "ioengine": "io_uring",
        "iodepth": depth,
        "iodepth_batch_submit": depth,
        "thread": 1,  # as in files.fio
        "time_based": 1,
        "runtime": f"{round(seconds * 1000)}ms",
        "output-format": "json",
    }
    answer = files.run([FIO, *(f"--{name}={value}" for name, value in options.items())])
    return {"value": answer["jobs"][0]["read"]["iops"]}


def missing() -> dict[str, str]:
    """Contenders that cannot run here, and why."""
    reasons = {}
    try:
        runner.compiled("ring_nops", "uring")
    except (OSError, subprocess.CalledProcessError):
        reasons[C] = "there is no compiler, or no liburing.h (Debian: liburing-dev)"
    if importlib.util.find_spec("liburing") is None:
        reasons["liburing"] = "Python's liburing is not installed"
    if shutil.which(FIO) is None:
        reasons[FIO] = "there is no fio"
    return reasons


def cases(options: argparse.Namespace, folder: Path, left_out: Sequence[str]) -> Iterator[tuple[Case, str]]:
    """Each question, and against whom."""
    for name, title in NOPS.items():
        contenders = _contenders((C, *ring_cases.NOPS), left_out)
        yield Case(title, lambda each, name=name: nops(each, name, options.seconds), contenders, "NOPs/s"), C  # type: ignore[misc]
    path = folder / "file"
    blocks = (QUICK_BYTES if options.quick else FILE_BYTES) // ring_cases.BLOCK_BYTES
    path.write_bytes(b"".join(map(ring_cases.block, range(blocks))))
    for name, title in READS.items():
        for depth in QUICK_DEPTHS if options.quick else DEPTHS:
            contenders = _contenders((FIO, OURS, MANY), left_out)

            def measure(each: str, name: str = name, depth: int = depth) -> dict[str, float]:
                return reads(each, name, path, depth, options.seconds)

            yield Case(f"{title}, {depth} in flight", measure, contenders, "reads/s"), FIO


def _contenders(names: Sequence[str], left_out: Sequence[str]) -> list[str]:
    """Return those that can run, and this project's once more if there is another checkout."""
    contenders = [name for name in names if name not in left_out]
    if runner.other_root is None:
        return contenders
    return [*contenders, *(name + OTHER for name in contenders if name not in (C, FIO, "liburing"))]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What does a bare ring cost from Python?")
    parser.add_argument("--seconds", type=float, default=0.5, help="measured in a sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nice", type=int, default=0, help="of what is measured, against other work; below 0 as root")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument(
        "--other", type=Path, metavar="FOLDER", help="another checkout, built in place, to compare with"
    )
    parser.add_argument("--folder", type=Path, help="where the file is made, by default where temporary ones are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    runner.niceness = options.nice
    if options.other is not None:
        runner.other_root = options.other.resolve()
    if options.quick:
        options.seconds, options.rounds = 0.02, 1
    left_out = missing()
    for name, reason in left_out.items():
        print(f"{name} is left out: {reason}")
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for case, reference in cases(options, Path(folder), list(left_out)):
            found.append(files.summary(case, results.ask(case, options.rounds), reference))
            print(files.table(found[-1]), flush=True)
    if options.json:
        record = {
            "benchmark": "ring",
            "machine": results.machine(),
            "versions": results.versions(["uringloop", "liburing"]),
            "missing": list(left_out),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "results": found,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
