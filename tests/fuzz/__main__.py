"""python -m tests.fuzz [sqes] [arguments] [streams] [tls] [eager] [--seconds 600] [--seed 1]

`eager` has parts, as `eager-tls-tiny`; `--help` names them all.  Its counts are printed at the end.
Each life (a ring or a loop) has a seed of its own, which is printed if it goes wrong; `--seed N --lives 1` repeats it.
"""

import argparse
import faulthandler
import logging
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable

from tests.fuzz import arguments, backend, eager, sqes, streams, tls

KINDS: dict[str, Callable[[random.Random], None]] = {
    "sqes": sqes.run,
    "arguments": arguments.run,
    "streams": streams.run,
    "tls": tls.run,
    **eager.PARTS,
}
_USUAL = ["sqes", "arguments", "streams", "tls", "eager"]
_HANG_S = 15


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random use of the core.")
    parser.add_argument("kinds", nargs="*", default=_USUAL, help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lives", type=int, default=1 << 62, help="at most so many of each kind")
    parser.add_argument("--backend", choices=("io_uring", "epoll"), default="io_uring")
    options = parser.parse_args()
    backend.choose(options.backend)
    # asyncio warns of writes after a connection's end, which are part of the lives.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # Random lengths may be those of files.
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    end = time.monotonic() + options.seconds
    seed = options.seed
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        while time.monotonic() < end and seed < options.seed + options.lives:
            for kind in options.kinds:
                faulthandler.dump_traceback_later(_HANG_S, exit=True)
                try:
                    KINDS[kind](random.Random(seed))
                except BaseException:
                    print(f"{kind}, seed {seed}:", flush=True)
                    raise
            seed += 1
        os.chdir("/")
    faulthandler.cancel_dump_traceback_later()
    for line in (*eager.report(), *tls.report()):
        print(line)
    print(f"{seed - options.seed} lives of {', '.join(options.kinds)} from seed {options.seed} on")


if __name__ == "__main__":
    main()
