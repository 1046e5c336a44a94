"""How do event loops compare in working with threads: executors, and calls from a thread into the loop?

    python -m benchmarks.threads --rounds 7

Each question is asked with all threads of a contender on one CPU, and with two CPUs for them.  On one CPU a wakeup is
a switch, and on two it waits for the other CPU to wake.
"""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks import results, workers
from benchmarks.results import Case, Figures
from benchmarks.runner import Workers


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with Workers() as on_one, Workers(both=True) as on_two:
        for running, cpus in (on_one, "1 CPU"), (on_two, "2 CPUs"):
            for question in options.only:

                def measure(contender: str, question: str = question, running: Workers = running) -> Figures:
                    return running.ask(contender, f"{question} {options.seconds}")

                yield Case(f"{question.replace('_', ' ')}, {cpus}", measure, options.loops, "µs", lower_is_better=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, seconds=0.1)
    parser.add_argument("--only", nargs="+", choices=workers.THREADS, default=workers.THREADS, metavar="QUESTION")
    options = parser.parse_args(arguments)
    results.report("threads", cases(options), options)


if __name__ == "__main__":
    main()
