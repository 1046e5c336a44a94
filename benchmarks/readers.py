"""How do event loops compare in watching descriptors by `add_reader` and `add_writer`?

    python -m benchmarks.readers --only standing_reader --rounds 7

A reader may be set and removed for each answer, as psycopg does, or stand.  A protocol's conversation is measured with
and without an idle reader beside it.
"""

from collections.abc import Sequence

from benchmarks import readiness, runner, scheduling


def main(arguments: Sequence[str] | None = None) -> None:
    runner.compiled("mirror")
    scheduling.run("readers", __doc__, list(readiness.QUESTIONS), arguments)


if __name__ == "__main__":
    main()
