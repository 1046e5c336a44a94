"""How do event loops compare in looking names and addresses up?

    python -m benchmarks.names --rounds 7

The C library finds localhost in /etc/hosts: no name server is asked, so the rates are those of threads and wakeups.
"""

from collections.abc import Sequence

from benchmarks import scheduling, workers


def main(arguments: Sequence[str] | None = None) -> None:
    scheduling.run("names", __doc__, workers.NAMES, arguments)


if __name__ == "__main__":
    main()
