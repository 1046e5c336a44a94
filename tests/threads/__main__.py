"""Loops in threads under stress: `python -m tests.threads`.

Ten million calls of `call_soon_threadsafe` by eight threads to four loops come first, then each part for a time.
"""

import argparse
import faulthandler
import sys
import time

from tests.variants import FACTORIES

from .calls import call_from_threads
from .stress import PARTS

_CALLS = 10_000_000
_PRODUCERS, _LOOPS = 8, 4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.threads", description=__doc__)
    parser.add_argument("--loops", nargs="+", choices=FACTORIES, default=["ring", "epoll"], metavar="LOOP")
    parser.add_argument("--calls", type=int, default=_CALLS, help=f"how many; {_CALLS} by default, 0 for none")
    parser.add_argument("--seconds", type=float, default=60, help="for each part; 60 by default")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    options = parser.parse_args()
    with_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, {'with' if with_gil else 'without'} the GIL", flush=True)
    lost = 0
    for variant in options.loops:
        if options.calls:
            faulthandler.dump_traceback_later(3600, exit=True)
            start = time.perf_counter()
            received = call_from_threads(options.calls, _PRODUCERS, _LOOPS, FACTORIES[variant])
            took_s = time.perf_counter() - start
            missing = options.calls // _PRODUCERS * _PRODUCERS - sum(one.count for one in received)
            disordered = sum(one.out_of_order for one in received)
            lost += missing + disordered
            print(
                f"{variant:10} {options.calls} calls in {took_s:.1f} s, {missing} lost, {disordered} out of order",
                flush=True,
            )
        for name in options.only:
            faulthandler.dump_traceback_later(options.seconds * 3 + 120, exit=True)
            print(f"{variant:10} {name:20} {PARTS[name](options.seconds, _LOOPS, FACTORIES[variant])}", flush=True)
        faulthandler.cancel_dump_traceback_later()
    if with_gil and getattr(sys, "abiflags", "").startswith("t"):
        sys.exit("something has turned the GIL on")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
