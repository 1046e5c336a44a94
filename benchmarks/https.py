"""How do event loops compare below the HTTPS clients aiohttp and httpx?

    python -m benchmarks.https --only aiohttp --rounds 7

A client sends eight requests at a time, over connections that stay open (`clients.py`).  Both libraries run as they are
installed.
"""

import argparse
import importlib.util
from collections.abc import Iterator, Sequence

from benchmarks import clients, results
from benchmarks.results import Case


def cases(options: argparse.Namespace) -> Iterator[Case]:
    questions = [f"{library}_https_get" for library in options.only]
    yield from clients.cases("https", questions, options.loops, options.seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, seconds=0.2, transports=True)
    libraries = [name for name in ("aiohttp", "httpx") if importlib.util.find_spec(name)]
    parser.add_argument("--only", nargs="+", choices=libraries, default=libraries, metavar="LIBRARY")
    options = parser.parse_args(arguments)
    results.report("https", cases(options), options)


if __name__ == "__main__":
    main()
