"""What does it cost a loop to measure itself, and to share its statistics with `python -m uringloop top`?

    python -m benchmarks.measuring --modes protocol streams --connections 1 64 --rounds 7

The same loop takes part twice on each backend: measuring, and not.  The ratio of the two is the answer.
"""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks import contenders, results
from benchmarks.echo import MODES, connections_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers


def cases(options: argparse.Namespace) -> Iterator[Case]:
    names = [name for pair in contenders.MEASURED.items() for name in pair if pair[0] in options.loops]
    for mode in options.modes:
        with Servers(mode) as servers:
            for connections in options.connections:
                load = Load("load", servers, options.seconds, c=connections)
                yield Case(f"tcp {mode}, {connections_text(connections)}, 1 KiB", load, names)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["protocol", "streams"])
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 64])
    options = parser.parse_args(arguments)
    options.loops = [name for name in options.loops if name in contenders.MEASURED]
    results.report("measuring", cases(options), options)


if __name__ == "__main__":
    main()
