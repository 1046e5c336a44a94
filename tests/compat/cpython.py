"""Runs CPython's own asyncio tests of this interpreter on any event loop.

    python -m tests.compat.cpython --loop uringloop --sleep ring --jobs 2 -k TestSSL -v

Exit status 0 means that every test passed, or was skipped by CPython or by `skips.py`; 1 that some did not;
2 that nothing could be run. `suite.py` says which tests, `loops.py` how they get their loop, `isolation.py`
how each runs.
"""

from __future__ import annotations

import argparse
import errno
import fnmatch
import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
import unittest
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.compat.isolation import Ended, run_isolated
from tests.compat.loops import BACKENDS, SLEEPS, Census, LoopChoice, LoopFactory, bind
from tests.compat.outcomes import Outcome, Status
from tests.compat.report import Run, print_report, write_json
from tests.compat.skips import reason_to_skip
from tests.compat.suite import Suite, TestId
from tests.refused import seccomp
from uringloop import streams

_ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    if options.refuse:
        seccomp.refuse(errno.EPERM, seccomp.SETUP, seccomp.ENTER, seccomp.REGISTER)
    choice = LoopChoice(options.loop, options.sleep, options.backend)
    _prepare_process()
    if options.streams:
        streams.install()
    try:
        factory, census = bind(choice)
        suite = Suite(factory)
        chosen = _choose(suite.ids, options.patterns)
        if options.list:
            print(*chosen, sep="\n")
            return 0
        loop_class = _try_loop(factory)
    except (ImportError, AttributeError, ValueError, ChildProcessError) as error:
        print(f"cannot run {choice.label}: {error}", file=sys.stderr)
        return 2
    started = time.monotonic()
    outcomes = []
    for outcome in _run(suite, census, chosen, options):
        outcomes.append(outcome)
        _show_progress(outcome, len(outcomes), len(chosen))
    # The report keeps the suite's order, whichever test ended first.
    place = {str(test_id): number for number, test_id in enumerate(chosen)}
    outcomes.sort(key=lambda outcome: place[outcome.test_id])
    run = Run(choice, loop_class, tuple(outcomes), time.monotonic() - started)
    print_report(run, verbose=options.verbose)
    if options.json:
        write_json(options.json, run)
    return 1 if any(outcome.status.is_bad for outcome in outcomes) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.cpython", description=__doc__.partition("\n")[0])
    parser.add_argument("--loop", default="uringloop", help="asyncio, uvloop, uringloop or MODULE:CALLABLE")
    parser.add_argument("--sleep", default="auto", choices=SLEEPS, help="where uringloop sleeps")
    parser.add_argument("--backend", default="auto", choices=BACKENDS, help="what carries its operations")
    parser.add_argument("--streams", action="store_true", help="put uringloop.streams in the place of asyncio's")
    parser.add_argument("--refuse", action="store_true", help="refuse io_uring, as container runtimes do")
    # Most tests wait more than they work.
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="tests at once")
    # Longer than the limit of 30 s within many tests, whose own message says more.
    parser.add_argument("--timeout", type=float, default=45.0, help="seconds that one test may take")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    parser.add_argument(
        "-k",
        dest="patterns",
        action="append",
        default=[],
        metavar="PATTERN",
        help="substring or glob of Class.test; may be repeated",
    )
    parser.add_argument("--no-skips", action="store_true", help="run the tests of skips.py too")
    parser.add_argument("--list", action="store_true", help="name the tests and stop")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what failed tests printed")
    return parser.parse_args(arguments)


def _choose(ids: Sequence[TestId], patterns: Sequence[str]) -> list[TestId]:
    """The tests that any pattern names; a pattern that names none is a slip, not an empty run."""
    if not patterns:
        return list(ids)
    globs = [pattern if "*" in pattern else f"*{pattern}*" for pattern in patterns]
    for glob in globs:
        if not fnmatch.filter(map(str, ids), glob):
            raise ValueError(f"no test matches {glob}")
    return [test_id for test_id in ids if any(fnmatch.fnmatchcase(str(test_id), glob) for glob in globs)]


def _prepare_process() -> None:
    """Everything that the forked children share, and nothing that a new process could not have."""
    os.environ.pop("PYTHONASYNCIODEBUG", None)
    # For the interpreters that tests start: they run in a scratch directory.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    multiprocessing.set_forkserver_preload(["tests.compat.forkserver_preload"])
    warnings.simplefilter("default")
    # As regrtest without -u: no test may reach out of this machine.
    support: Any = importlib.import_module("test.support")
    support.use_resources = []


def _try_loop(factory: LoopFactory) -> str:
    """The name of the tested loop's class. It is made in a child: the parent stays without loops."""

    def make_and_close(_task: None) -> str:
        loop = factory()
        loop.close()
        return f"{type(loop).__module__}.{type(loop).__qualname__}"

    (ended,) = run_isolated([None], make_and_close, jobs=1, timeout_seconds=10)
    if ended.exit_code != 0 or ended.answer is None:
        raise ChildProcessError(ended.output or f"making a loop ended with status {ended.exit_code}")
    return ended.answer


def _run(suite: Suite, census: Census, chosen: Sequence[TestId], options: argparse.Namespace) -> Iterator[Outcome]:
    to_run = []
    for test_id in chosen:
        reason = None if options.no_skips else reason_to_skip(options.loop, str(test_id))
        if reason is None:
            to_run.append(test_id)
        else:
            yield Outcome(str(test_id), Status.SKIPPED_BY_LIST, reason)

    def run_here(test_id: TestId) -> str:
        return json.dumps(_run_test(suite.case(test_id), census))

    # What is alive now belongs to every child: their collectors need not walk it, nor copy its pages.
    gc.collect()
    gc.freeze()
    for ended in run_isolated(to_run, run_here, jobs=options.jobs, timeout_seconds=options.timeout):
        yield _judge(ended, options.timeout)


class _Result(unittest.TestResult):
    """Prints each failure where it happens, among the test's own output, and keeps the first in one line."""

    first_problem = ""

    def _exc_info_to_string(self, err: Any, test: unittest.TestCase) -> str:
        # Every kind of failure passes here: of a test, a subtest, a fixture.
        text: str = super()._exc_info_to_string(err, test)  # type: ignore[misc]
        kind, message = err[0].__name__, str(err[1]).strip().partition("\n")[0]
        self.first_problem = self.first_problem or (f"{kind}: {message}" if message else kind)
        print(f"{test}:\n{text}", file=sys.stderr)
        return text


def _run_test(case: unittest.TestCase, census: Census) -> dict[str, Any]:
    """In the child: run one test and say how it went."""
    result = _Result()
    # A suite, not the bare case: class and module fixtures hang on it.
    unittest.TestSuite([case]).run(result)
    status, reason = Status.PASSED, ""
    if result.errors or result.failures:
        status, reason = Status.FAILED, result.first_problem
    elif result.unexpectedSuccesses:
        status, reason = Status.FAILED, "passed, though CPython expects it to fail"
    elif result.skipped:
        status, reason = Status.SKIPPED_BY_CPYTHON, result.skipped[0][1]
    else:
        miss = census.verdict()
        if miss is not None:
            status, reason = Status.FAILED, miss
    return {
        "status": status.value,
        "reason": reason,
        "loops_given": census.given,
        "loops_simulated": census.simulated,
    }


def _judge(ended: Ended[TestId], timeout_seconds: float) -> Outcome:
    """In the parent: a child's own word counts only if its process ended well too."""
    answer = json.loads(ended.answer) if ended.answer else {}
    status = Status(answer.pop("status", Status.CRASHED.value))
    reason = answer.pop("reason", "")
    after = f", after the test had {status.value}" if ended.answer else ""
    if ended.timed_out:
        status, reason = Status.TIMED_OUT, f"still running after {timeout_seconds:g} s{after}"
    elif ended.exit_code < 0:
        status, reason = Status.CRASHED, f"killed by {signal.Signals(-ended.exit_code).name}{after}"
    elif ended.exit_code > 0 or not ended.answer:
        status, reason = Status.CRASHED, f"process ended with status {ended.exit_code}{after}"
    return Outcome(str(ended.task), status, reason, round(ended.seconds, 3), output=ended.output, **answer)


def _show_progress(outcome: Outcome, done: int, total: int) -> None:
    if outcome.status.is_bad:
        print(f"[{done}/{total}] {outcome.test_id}: {outcome.status.value}", file=sys.stderr, flush=True)
    elif sys.stderr.isatty():
        print(f"[{done}/{total}]", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
