"""How do event loops compare in calling callbacks, timers, tasks and futures?

    python -m benchmarks.scheduling --only call_soon gather --rounds 7

Each loop measures within a process of its own; they take turns, a question at a time.  pyperf would measure one loop
after the other, minutes apart: on a machine that does something else at times, the ratio is then of those times.
"""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks import results, workers
from benchmarks.results import Case, Figures
from benchmarks.runner import Workers


def cases(options: argparse.Namespace) -> Iterator[Case]:
    with Workers() as running:
        for question in options.only:

            def measure(contender: str, question: str = question) -> Figures:
                return running.ask(contender, f"{question} {options.seconds}")

            yield Case(question.replace("_", " "), measure, options.loops, "µs", lower_is_better=True)


def run(benchmark: str, description: str | None, questions: Sequence[str], arguments: Sequence[str] | None) -> None:
    parser = results.parser(description, seconds=0.1)
    parser.add_argument("--only", nargs="+", choices=questions, default=questions, metavar="QUESTION")
    options = parser.parse_args(arguments)
    results.report(benchmark, cases(options), options)


def main(arguments: Sequence[str] | None = None) -> None:
    run("scheduling", __doc__, workers.SCHEDULING, arguments)


if __name__ == "__main__":
    main()
