"""Prints many files, all of which are opened and read at once, on a ring without an event loop.

    python examples/ring_cat.py README.md docs/*.md

Each file is a generator of operations: it yields one, and is sent its result.
"""

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from uringloop.operations import Fstat, Open, Read
from uringloop.ring import Ring, RingUnavailableError


def whole(path: str) -> Generator[Any, Any, bytes]:
    """The content of a file."""
    fd = yield Open(path, os.O_RDONLY)
    try:
        status = yield Fstat(fd)
        content = bytearray(status.size_bytes)
        done = 0
        while done < len(content):
            count = yield Read(fd, content, done, start_bytes=done)
            if count == 0:
                break
            done += count
        return bytes(content[:done])
    finally:
        os.close(fd)


def run_all(ring: Ring, generators: list[Generator[Any, Any, bytes]]) -> list[bytes | OSError]:
    """What each of them returns, or the error that ended it."""
    results: list[bytes | OSError] = [b""] * len(generators)
    places = {ring.prepare(next(generator)): place for place, generator in enumerate(generators)}
    for completion in ring.completions():
        place = places.pop(completion.operation)
        generator = generators[place]
        try:
            try:
                result = completion.result()
            except OSError as error:
                following = generator.throw(error)
            else:
                following = generator.send(result)
            places[ring.prepare(following)] = place
        except StopIteration as end:
            results[place] = end.value
        except OSError as error:
            results[place] = error
    return results


def main() -> None:
    paths = sys.argv[1:] or [str(Path(__file__))]
    try:
        with Ring() as ring:
            contents = run_all(ring, [whole(path) for path in paths])
    except RingUnavailableError as error:
        sys.exit(str(error))
    failed = False
    for content in contents:
        if isinstance(content, OSError):
            print(f"failed: {content}", file=sys.stderr)
            failed = True
        else:
            sys.stdout.buffer.write(content)
    sys.exit(failed)


if __name__ == "__main__":
    main()
