"""A job's way: submitted, begun, finished and taken; or withdrawn, or abandoned."""

import array
import fcntl
import termios
from collections.abc import Callable

import pytest

from uringloop.pool._cffi import lib

from .jobs import Gate, Port, counts, free, make, shim, wait_idle, wait_until


def test_a_finished_job_makes_the_port_readable_until_it_is_taken(port: Port, gate: Gate) -> None:
    [job] = port.submit_held(gate, 1)
    gate.wait_begun(1)
    assert (port.unfinished, port.ready, port.is_readable(), port.take()) == (1, False, False, [])
    gate.open(1)
    assert port.wait(1) == [job]
    assert (port.unfinished, port.ready, port.is_readable(), port.take()) == (0, False, False, [])
    free(job)


def unread_bytes(port: Port) -> int:
    size = array.array("i", [0])
    fcntl.ioctl(port.fd, termios.FIONREAD, size)
    return size[0]


def test_a_pipe_is_empty_after_the_jobs_were_taken() -> None:
    port = Port(with_pipe=True)
    try:
        for written in range(3):
            job = make(written)
            assert port.submit(job) == 0
            wait_until(lambda written=written: unread_bytes(port) == 8 * (written + 1))
            if written < 2:
                port.abandon(job)
        assert port.wait_numbers(1) == [2]
        assert not port.is_readable()
    finally:
        port.close()


def test_ready_tells_of_a_finished_job(port: Port) -> None:
    job = make()
    assert port.submit(job) == 0
    wait_until(lambda: port.ready)
    assert port.wait(1) == [job]
    free(job)


def test_one_thread_runs_jobs_in_order(port: Port) -> None:
    lib.ul_pool_limits(1, 0)
    for number in range(1000):
        assert port.submit(make(number)) == 0
    assert port.unfinished == 1000
    assert port.wait_numbers(1000) == list(range(1000))
    assert counts()["threads"] == 1


def test_jobs_come_in_the_order_in_which_they_finish(port: Port, open_port: Callable[[], Port]) -> None:
    gates = [Gate() for _ in range(4)]
    jobs = [port.submit_held(gate, 1, number)[0] for number, gate in enumerate(gates)]
    for gate in gates:
        gate.wait_begun(1)
    for ended, number in enumerate((2, 0, 3, 1), 1):
        gates[number].open(1)
        # Only the first of them announces itself, so a thread that is idle tells of the others.
        wait_idle(ended)
    assert port.take() == [jobs[2], jobs[0], jobs[3], jobs[1]]
    for job, gate in zip(jobs, gates, strict=True):
        free(job)
        gate.close()


def test_a_taken_job_can_be_submitted_again(port: Port) -> None:
    job = make()
    for _ in range(3):
        assert port.submit(job) == 0
        assert port.wait(1) == [job]
    free(job)


def test_withdraw_takes_a_queued_job_back(port: Port, gate: Gate) -> None:
    lib.ul_pool_limits(1, 0)
    first, second, third, fourth = port.submit_held(gate, 4)
    gate.wait_begun(1)
    assert counts()["queued"] == 3
    assert port.withdraw(third)
    assert not port.withdraw(first)
    assert (counts()["queued"], port.unfinished) == (2, 3)
    gate.open(3)
    assert port.wait(3) == [first, second, fourth]
    assert not port.withdraw(fourth)
    for job in (first, second, third, fourth):
        free(job)


def test_a_withdrawn_job_can_be_submitted_again(port: Port, gate: Gate) -> None:
    lib.ul_pool_limits(1, 0)
    first, second = port.submit_held(gate, 2)
    gate.wait_begun(1)
    assert port.withdraw(second)
    assert port.submit(second) == 0
    gate.open(2)
    assert port.wait(2) == [first, second]
    free(first)
    free(second)


def test_a_finished_job_is_not_withdrawn(port: Port) -> None:
    job = make()
    assert port.submit(job) == 0
    wait_until(lambda: port.ready)
    assert not port.withdraw(job)
    assert port.wait(1) == [job]
    free(job)


def test_an_abandoned_job_is_disposed_of_when_it_returns(port: Port, gate: Gate) -> None:
    before = shim().jobs_disposed()
    [job] = port.submit_held(gate, 1)
    gate.wait_begun(1)
    port.abandon(job)
    assert (port.unfinished, counts()["stuck"], shim().jobs_disposed()) == (0, 1, before)
    gate.open(1)
    wait_until(lambda: counts()["stuck"] == 0)
    assert shim().jobs_disposed() == before + 1
    assert (port.ready, port.is_readable(), port.take()) == (False, False, [])


@pytest.mark.parametrize("abandoned", [0, 1, 2])
def test_abandoning_a_finished_job_disposes_of_it_at_once(port: Port, gate: Gate, abandoned: int) -> None:
    before = shim().jobs_disposed()
    lib.ul_pool_limits(1, 0)
    jobs = [make(number) for number in range(3)]
    assert [port.submit(job) for job in jobs] == [0, 0, 0]
    [last] = port.submit_held(gate, 1, 3)
    gate.wait_begun(1)
    port.abandon(jobs[abandoned])
    assert shim().jobs_disposed() == before + 1
    gate.open(1)
    wait_idle(1)
    assert port.take() == [job for job in [*jobs, last] if job != jobs[abandoned]]
    for job in [*jobs, last]:
        if job != jobs[abandoned]:
            free(job)


def test_abandoning_a_queued_job_disposes_of_it_at_once(port: Port, gate: Gate) -> None:
    before = shim().jobs_disposed()
    lib.ul_pool_limits(1, 0)
    first, second = port.submit_held(gate, 2)
    gate.wait_begun(1)
    port.abandon(second)
    assert (shim().jobs_disposed(), port.unfinished, counts()["queued"]) == (before + 1, 1, 0)
    gate.open(1)
    assert port.wait(1) == [first]
    free(first)


def test_abandoning_a_taken_job_changes_nothing(port: Port) -> None:
    before = shim().jobs_disposed()
    lib.ul_pool_limits(1, 0)
    jobs = [make(number) for number in range(4)]
    assert [port.submit(job) for job in jobs[:2]] == [0, 0]
    assert port.wait(2) == jobs[:2]
    assert port.submit(jobs[2]) == 0
    wait_idle(1)
    port.abandon(jobs[1])
    assert (port.unfinished, shim().jobs_disposed()) == (1, before)
    assert port.submit(jobs[3]) == 0
    wait_idle(1)
    assert port.take() == jobs[2:]
    for job in jobs:
        free(job)


def test_closing_disposes_of_queued_finished_and_running_jobs(port: Port, gate: Gate) -> None:
    before = shim().jobs_disposed()
    lib.ul_pool_limits(1, 0)
    assert port.submit(make()) == 0
    port.submit_held(gate, 3)
    gate.wait_begun(1)
    port.close()
    assert shim().jobs_disposed() == before + 3
    assert counts() == {"threads": 1, "idle": 0, "stuck": 1, "queued": 0}
    gate.open(1)
    wait_until(lambda: counts()["stuck"] == 0)
    assert shim().jobs_disposed() == before + 4


def test_closing_one_port_leaves_the_jobs_of_another(open_port: Callable[[], Port], gate: Gate) -> None:
    lib.ul_pool_limits(1, 1)
    left, right = open_port(), open_port()
    left.submit_held(gate, 2)
    [job] = right.submit_held(gate, 1)
    gate.wait_begun(1)
    left.close()
    # The thread of the abandoned job is replaced.
    gate.wait_begun(1)
    gate.open(2)
    assert right.wait(1) == [job]
    free(job)
