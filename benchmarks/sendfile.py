"""How do event loops compare in loop.sendfile?

    python -m benchmarks.sendfile --sizes 16384 1048576 --rounds 5

One client asks for one file after the other, which are in the page cache.
"""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks import results
from benchmarks.bulk import content_file
from benchmarks.echo import bytes_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for size in options.sizes:
        with content_file(size) as content, Servers("sendfile", "--file", content) as servers:
            load = Load("bulk", servers, options.seconds, f=content, m="fetch")
            yield Case(f"sendfile, {bytes_text(size)}", load, options.loops, "files/s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, transports=True)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16 << 10, 1 << 20], help="of the file, in bytes")
    options = parser.parse_args(arguments)
    results.report("sendfile", cases(options), options)


if __name__ == "__main__":
    main()
