"""How do event loops compare below psycopg, pyzmq and grpc.aio, which bring I/O of their own, and below aioquic?

    python -m benchmarks.libraries --only psycopg_select pyzmq_request_tcp --rounds 7 --seconds 1

psycopg talks to a PostgreSQL of its own, from Debian's package of that name.  Its rate is PostgreSQL's too, and its CPU
time the loop's and psycopg's alone.  The others talk to themselves.
"""

import argparse
import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from unittest import mock

from benchmarks import conversations, results, runner, scheduling
from benchmarks.results import Case


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with contextlib.ExitStack() as running:
        if any(question.startswith("psycopg") for question in options.only):
            # Not before: PostgreSQL may be missing where it is not asked for.
            from tests.compat.libraries.databases import USER, postgresql

            database = running.enter_context(postgresql())
            _prefer(int((database.folder / "data" / "postmaster.pid").read_text().split()[0]))
            dsn = f"host=127.0.0.1 port={database.port} user={USER} dbname=postgres sslmode=disable"
            running.enter_context(mock.patch.dict(os.environ, {conversations.DSN_VARIABLE: dsn}))
        yield from scheduling.cases(options)


def _prefer(pid: int) -> None:
    """Give a server that is not measured its CPU, and with it its later children, and its niceness."""
    _, cpu = runner.server_and_load_cpu()
    os.sched_setaffinity(pid, {cpu})
    runner.make_nice(pid)


def available() -> list[str]:
    """The questions whose library is installed."""
    modules = {name: module.partition(".")[0] for name, module in conversations.MODULES.items()}
    there = [name for name, module in modules.items() if importlib.util.find_spec(module)]
    return [question for question in conversations.QUESTIONS if question.startswith(tuple(there))]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, seconds=0.2)
    questions = available()
    parser.add_argument("--only", nargs="+", choices=questions, default=questions, metavar="QUESTION")
    options = parser.parse_args(arguments)
    results.report("libraries", cases(options), options)


if __name__ == "__main__":
    main()
