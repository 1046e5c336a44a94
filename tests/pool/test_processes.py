"""Processes with jobs under way: their end, forks, signals, a lack of threads.  Each test has a process of its own."""

import subprocess
import sys

from .jobs import PACKAGE

BEGIN = """
import os, resource, signal, sys
from tests.pool.jobs import Gate, Port, counts, free, make, shim, wait_idle, wait_until
from uringloop.pool._cffi import ffi, lib
shim()
port, gate = Port(), Gate()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    # Python warns of each fork beside threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + script]
    return subprocess.run(
        command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )


def check(script: str, code: int = 0) -> None:
    finished = run(script)
    assert (finished.returncode, finished.stderr) == (code, "")


def test_the_program_ends_beside_a_running_job() -> None:
    check("port.submit_held(gate, 3); gate.wait_begun(3); sys.exit(7)", 7)


def test_the_program_ends_beside_an_abandoned_job() -> None:
    check("[job] = port.submit_held(gate, 1); gate.wait_begun(1); port.abandon(job); sys.exit(7)", 7)


def test_the_program_ends_beside_the_jobs_of_a_closed_port() -> None:
    check("lib.ul_pool_limits(1, 0); port.submit_held(gate, 3); gate.wait_begun(1); port.close(); sys.exit(7)", 7)


FORK = """
running = port.submit_held(gate, 2)
gate.wait_begun(2)
lib.ul_pool_limits(2, 1)
queued = port.submit_held(gate, 3, 2)
child = os.fork()
if child == 0:
    assert counts() == {"threads": 0, "idle": 0, "stuck": 0, "queued": 0}
    job = make()
    assert port.submit(job) == -116
    assert port.take() == []
    assert all(map(port.withdraw, [*running, *queued]))
    fd, disposed = port.fd, shim().jobs_disposed()
    port.abandon(running[0])
    END
    assert shim().jobs_disposed() == disposed
    try:
        os.fstat(fd)
    except OSError:
        pass
    else:
        sys.exit("the descriptor is still open")
    mine = Port()
    assert mine.submit(job) == 0
    assert mine.wait(1) == [job]
    assert shim().job_thread_name(job) == b"uringloop-pool"
    assert counts()["threads"] == 1
    mine.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert counts() == {"threads": 2, "idle": 0, "stuck": 0, "queued": 3}
gate.open(5)
assert sorted(port.wait_numbers(5)) == list(range(5))
"""


def test_a_forked_child_makes_a_new_pool() -> None:
    check(FORK.replace("END", "port.drop()"))


def test_closing_a_port_of_the_parent_drops_it() -> None:
    check(FORK.replace("END", "port.close()"))


def test_a_forked_child_of_a_child_makes_a_new_pool() -> None:
    check("""
def descend(left):
    mine = Port()
    mine.submit(make())
    mine.wait_numbers(1)
    child = os.fork() if left else None
    if child == 0:
        descend(left - 1)
    if child is not None:
        assert os.waitpid(child, 0)[1] == 0
    if left < 2:
        os._exit(0)
descend(2)
""")


def test_no_signal_runs_on_a_thread_of_the_pool() -> None:
    check(
        """
port.submit_held(gate, 1)
gate.wait_begun(1)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
assert signal.SIGTERM in signal.sigpending()
gate.open(1)
port.wait_numbers(1)
sys.exit(7)
""",
        7,
    )


#: A user that has other processes, or none, may have no further one.
NO_THREADS = """
if os.getuid() == 0:
    os.setresuid(54321, 54321, 54321)
resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
"""
MORE_THREADS = """
resource.setrlimit(resource.RLIMIT_NPROC, (1000, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
"""


def test_without_any_thread_a_job_is_refused() -> None:
    check(f"""
{NO_THREADS}
job = make()
assert [port.submit(job), port.submit(job)] == [-11, -11]
assert counts() == {{"threads": 0, "idle": 0, "stuck": 0, "queued": 0}}
assert port.unfinished == 0
{MORE_THREADS}
assert port.submit(job) == 0
assert port.wait(1) == [job]
""")


def test_without_a_further_thread_a_job_waits() -> None:
    check(f"""
[first] = port.submit_held(gate, 1)
gate.wait_begun(1)
{NO_THREADS}
[second] = port.submit_held(gate, 1)
assert counts() == {{"threads": 1, "idle": 0, "stuck": 0, "queued": 1}}
gate.open(2)
assert port.wait(2) == [first, second]
""")


def test_without_a_thread_that_is_not_stuck_a_job_is_refused() -> None:
    check(f"""
[stuck] = port.submit_held(gate, 1)
gate.wait_begun(1)
port.abandon(stuck)
{NO_THREADS}
job = make()
assert port.submit(job) == -11
gate.open(1)
wait_idle(1)
assert port.submit(job) == 0
assert port.wait(1) == [job]
""")
