"""The threads: their number, their making, replacement and end, their names and signals."""

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from uringloop.pool._cffi import ffi, lib

from .jobs import Gate, Port, counts, free, make, shim, wait_idle, wait_until

FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}


@pytest.fixture
def other_gate(gate: Gate) -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open(1000)
    wait_until(lambda: counts()["stuck"] == 0)
    made.close()


def test_no_more_threads_than_the_limit(port: Port, gate: Gate) -> None:
    lib.ul_pool_limits(3, 0)
    jobs = port.submit_held(gate, 10)
    gate.wait_begun(3)
    assert counts() == {"threads": 3, "idle": 0, "stuck": 0, "queued": 7}
    gate.open(10)
    assert {*port.wait(10)} == {*jobs}
    assert len({shim().job_thread(job) for job in jobs}) == 3
    for job in jobs:
        free(job)


def test_the_usual_limit_is_by_the_number_of_cpus(port: Port, gate: Gate) -> None:
    usual = min(32, max(8, 4 * len(os.sched_getaffinity(0))))
    port.submit_held(gate, usual + 5)
    gate.wait_begun(usual)
    assert counts() == {"threads": usual, "idle": 0, "stuck": 0, "queued": 5}
    gate.open(usual + 5)
    port.wait_numbers(usual + 5)


def test_one_job_after_the_other_needs_one_thread(port: Port) -> None:
    for _ in range(20):
        assert port.submit(make()) == 0
        port.wait_numbers(1)
        wait_idle(1)
    assert counts()["threads"] == 1


def test_the_thread_that_was_last_busy_is_next(port: Port, gate: Gate) -> None:
    port.submit_held(gate, 3)
    gate.wait_begun(3)
    gate.open(3)
    port.wait_numbers(3)
    wait_idle(3)
    threads = set()
    for _ in range(20):
        assert port.submit(make()) == 0
        [job] = port.wait(1)
        threads.add(shim().job_thread(job))
        free(job)
        wait_idle(3)
    assert len(threads) == 1


def test_idle_threads_end(port: Port, gate: Gate) -> None:
    port.submit_held(gate, 3)
    gate.wait_begun(3)
    lib.ul_pool_idle_limit(1)
    assert counts()["threads"] == 3
    gate.open(3)
    port.wait_numbers(3)
    wait_until(lambda: counts()["threads"] == 0)
    assert port.submit(make()) == 0
    port.wait_numbers(1)


def test_a_new_idle_limit_holds_for_threads_that_are_idle(port: Port) -> None:
    assert port.submit(make()) == 0
    port.wait_numbers(1)
    wait_idle(1)
    lib.ul_pool_idle_limit(1)
    wait_until(lambda: counts()["threads"] == 0)


def test_a_lower_limit_ends_threads(port: Port, gate: Gate) -> None:
    port.submit_held(gate, 6)
    gate.wait_begun(6)
    gate.open(3)
    wait_idle(3)
    lib.ul_pool_limits(2, 0)
    wait_until(lambda: counts()["threads"] == 3)
    gate.open(3)
    wait_until(lambda: counts()["threads"] == 2)
    port.wait_numbers(6)


def test_a_higher_limit_begins_what_is_queued(port: Port, gate: Gate) -> None:
    lib.ul_pool_limits(1, 0)
    port.submit_held(gate, 3)
    gate.wait_begun(1)
    lib.ul_pool_limits(3, 0)
    gate.wait_begun(2)
    gate.open(3)
    port.wait_numbers(3)


def test_stuck_threads_are_replaced_up_to_a_cap(port: Port, gate: Gate, other_gate: Gate) -> None:
    lib.ul_pool_limits(2, 1)
    stuck = port.submit_held(gate, 2)
    gate.wait_begun(2)
    port.submit_held(other_gate, 2)
    for job in stuck:
        port.abandon(job)
    other_gate.wait_begun(1)
    assert counts() == {"threads": 3, "idle": 0, "stuck": 2, "queued": 1}
    gate.open(1)
    # Its thread is back.
    other_gate.wait_begun(1)
    assert counts() == {"threads": 3, "idle": 0, "stuck": 1, "queued": 0}
    other_gate.open(2)
    port.wait_numbers(2)
    gate.open(1)
    wait_until(lambda: counts() == {"threads": 2, "idle": 2, "stuck": 0, "queued": 0})


def test_a_pool_full_of_stuck_jobs_keeps_others_queued(port: Port, gate: Gate) -> None:
    lib.ul_pool_limits(1, 0)
    [stuck] = port.submit_held(gate, 1)
    gate.wait_begun(1)
    port.abandon(stuck)
    waiting = make(7)
    assert port.submit(waiting) == 0
    assert counts() == {"threads": 1, "idle": 0, "stuck": 1, "queued": 1}
    assert port.withdraw(waiting)
    assert port.submit(waiting) == 0
    gate.open(1)
    assert port.wait_numbers(1) == [7]


def test_ports_take_turns(open_port: Callable[[], Port], gate: Gate) -> None:
    lib.ul_pool_limits(1, 0)
    left, right, third = open_port(), open_port(), open_port()
    left.submit_held(gate, 1)
    gate.wait_begun(1)
    jobs = [make() for _ in range(8)]
    for port, job in zip([left, left, left, left, right, right, third, left], jobs, strict=True):
        assert port.submit(job) == 0
    gate.open(1)
    free(left.wait(6).pop(0))
    right.wait(2)
    third.wait(1)
    first = shim().job_turn(jobs[0])
    turns = [shim().job_turn(job) - first for job in jobs]
    assert turns == [0, 3, 5, 6, 1, 4, 2, 7]
    for job in jobs:
        free(job)


def test_each_port_gets_its_own_jobs(open_port: Callable[[], Port]) -> None:
    got: dict[int, list[int]] = {}

    def use(port: Port, first: int) -> None:
        got[first] = []
        for number in range(first, first + 100):
            assert port.submit(make(number)) == 0
            if number % 10 == 0:
                got[first] += [free(job) for job in port.take()]
        got[first] += port.wait_numbers(100 - len(got[first]))

    threads = [threading.Thread(target=use, args=(open_port(), first)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {first: sorted(numbers) for first, numbers in got.items()} == {
        first: list(range(first, first + 100)) for first in range(0, 800, 100)
    }


def test_threads_have_a_name_and_block_signals(port: Port) -> None:
    job = make()
    assert port.submit(job) == 0
    assert port.wait(1) == [job]
    assert shim().job_thread_name(job) == b"uringloop-pool"
    blocked = shim().job_signals_blocked(job)
    free(job)
    open_ones = {number for number in signal.valid_signals() if not blocked & 1 << number - 1}
    assert open_ones == FAULTS | {signal.SIGKILL, signal.SIGSTOP}


def test_the_stack_has_room_for_names(port: Port) -> None:
    job = make(looks_up=True)
    assert port.submit(job) == 0
    assert port.wait(1) == [job]
    free(job)


def test_the_caller_keeps_its_signal_mask(port: Port) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert port.submit(make()) == 0
    port.wait_numbers(1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_opening_without_descriptors_tells_why() -> None:
    error = ffi.new("int *")
    with no_descriptors():
        assert not lib.ul_port_open(error)
    assert os.strerror(-error[0]) == "Too many open files"
