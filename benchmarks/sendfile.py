"""How do event loops compare in loop.sendfile?

    python -m benchmarks.sendfile --sizes 16384 1048576 --rounds 5

One client asks for one file after the other, which are in the page cache.  uvloop has no sendfile: its server reads in
a thread and writes, as aiohttp does.  The C server is the limit: os.sendfile with a poll.
"""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks import contenders, results
from benchmarks.bulk import content_file
from benchmarks.echo import bytes_text
from benchmarks.results import Case
from benchmarks.runner import Load, Servers

SIZES = [4 << 10, 16 << 10, 64 << 10, 1 << 20, 256 << 20]


def cases(options: argparse.Namespace) -> Iterator[Case]:
    for size in options.sizes:
        with content_file(size) as content, Servers("sendfile", "--file", content) as servers:
            load = Load("bulk", servers, options.seconds, f=content, m="fetch")
            loops = [*options.loops, *([] if options.no_limits else contenders.C_FILE_SERVERS)]
            yield Case(f"sendfile, {bytes_text(size)}", load, loops, "files/s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, transports=True)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="of the file, in bytes")
    parser.add_argument("--no-limits", action="store_true", help="without the C server")
    options = parser.parse_args(arguments)
    results.report("sendfile", cases(options), options)


if __name__ == "__main__":
    main()
