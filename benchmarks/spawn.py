"""How do event loops compare in starting child processes and waiting for them?

python -m benchmarks.spawn --rounds 5
"""

from collections.abc import Sequence

from benchmarks import scheduling, workers


def main(arguments: Sequence[str] | None = None) -> None:
    scheduling.run("spawn", __doc__, workers.SPAWNING, arguments)


if __name__ == "__main__":
    main()
