"""`python -m uringloop trace`: live where tracefs can be mounted, in a mount namespace; otherwise by recorded lines."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT, environment, python
from uringloop.ring import trace

#: As Linux 6.18 writes them.
RECORDED = """\
          python-13812   [001] .....  3764.720378: io_uring_submit_req: ring 0000000008282467, req 000000000a8bcf57, \
user_data 0x1600, opcode SEND, flags 0x400000, sq_thread 0
          python-13812   [001] .....  3764.724007: io_uring_complete: ring 0000000008282467, req 00000000243a3499, \
user_data 0x1690, result 64, cflags 0x10005 extra1 0 extra2 0
 iou-wrk-14777-14780   [001] .....  3765.112300: io_uring_queue_async_work: ring 0000000087fb7899, request \
000000000ddb021c, user_data 0x160, opcode FSYNC, flags 0x10000080010, normal queue, work 0000000069982188
          python-13812   [001] .....  3764.720387: io_uring_poll_arm: ring 0000000008282467, req 000000000a8bcf57, \
user_data 0x1600, opcode SEND, mask 0xc000010e, events 0xc000213e
          python-14777   [001] .....  3765.112227: io_uring_cqe_overflow: ring 0000000087fb7899, user_data 0x90, \
res 0, cflags 0x0, overflow_cqe 00000000760a379f
          python-14733   [000] .....  3764.943281: io_uring_cqring_wait: ring 00000000fb701c49, min_events 1
CPU:1 [LOST 17 EVENTS]
          python-13809   [001] .....  3764.816116: io_uring_create: ring 0000000087fb7899, fd 14 sq size 256
          python-13809   [001] .....  3764.8161
"""


def test_recorded_lines() -> None:
    assert trace.count(RECORDED) == {
        "submits": 1,
        "submits of SEND": 1,
        "completions": 1,
        "punts": 1,
        "polls": 1,
        "overflows": 1,
        "waits": 1,
        "lost": 17,
    }


def test_each_word_is_explained() -> None:
    assert set(trace.MEANINGS) == {*trace.TRACEPOINTS.values(), "lost"}
    assert all(f"| {word} |" in (ROOT / "docs" / "tracing.md").read_text() for word in trace.MEANINGS)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(trace.TraceUnavailableError, match=r"not mounted\. Run `mount"):
        trace.find_tracefs((nowhere, tmp_path))
    (tmp_path / "instances").mkdir()
    with pytest.raises(trace.TraceUnavailableError, match="no io_uring tracepoints"):
        trace.find_tracefs((nowhere, tmp_path))
    (tmp_path / "events" / "io_uring").mkdir(parents=True)
    assert trace.find_tracefs((nowhere, tmp_path)) == tmp_path


def test_who_may_not(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    tmp_path.chmod(0)
    try:
        with pytest.raises(trace.TraceUnavailableError, match=r"may not be read\. Run as root"):
            trace.find_tracefs((tmp_path,))
    finally:
        tmp_path.chmod(0o700)


def test_no_such_process(tmp_path: Path) -> None:
    for path in ("instances", "events/io_uring"):
        (tmp_path / path).mkdir(parents=True)
    with pytest.raises(ProcessLookupError):
        next(trace.watch(1 << 22, 1, tmp_path))


def test_the_command_where_it_cannot() -> None:
    """A reason and no traceback; a process that is not there is one in any case."""
    finished = python(["-m", "uringloop", "trace", str(1 << 22)])
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert re.search(r"No such process|Run ", finished.stderr)


BUSY = """
import time
from uringloop.operations import Nop
from uringloop.ring import Ring

with Ring(8) as ring:
    print("running", flush=True)
    while True:
        for _ in range(8):
            ring.prepare(Nop())
        ring.submit(wait_for=8)
        while ring.peek_cqe():
            pass
        time.sleep(0.001)
"""


def test_live() -> None:
    """In a mount namespace of its own, so that nothing is mounted for anybody else."""
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tracefs nodev /sys/kernel/tracing && ls /sys/kernel/tracing/instances"],
        capture_output=True,
        check=False,
    )
    if probe.returncode != 0:
        pytest.skip(f"tracefs cannot be mounted here: {probe.stderr.decode().strip()}")
    busy = subprocess.Popen([sys.executable, "-c", BUSY], env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert busy.stdout is not None
        assert busy.stdout.readline() == "running\n"
        command = f"{sys.executable} -m uringloop trace {busy.pid} --interval 0.3 --lines 2"
        finished = subprocess.run(
            ["unshare", "-m", "sh", "-c", f"mount -t tracefs nodev /sys/kernel/tracing && {command}"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        busy.send_signal(signal.SIGKILL)
        busy.communicate()
    assert (finished.returncode, finished.stderr) == (0, "")
    rates = [line.split() for line in finished.stdout.partition("a second:\n")[2].splitlines()[1:]]
    assert len(rates) == 2
    for submits, completions, *_, name, rate in rates:
        assert int(submits) > 0
        assert int(completions) > 0
        assert (name, int(rate)) == ("NOP", int(submits))
