"""Short connections, timers and calls of libraries in great numbers, and what they leave: `python -m tests.load`.

A tenth as many come first, so that what is made once and kept is not counted.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from tests.variants import FACTORIES

from .cancels import cancels
from .churn import growth, short_connections, timers
from .flood import LATE_S, flood
from .libraries import ALONE, psycopg_queries
from .writing import write_and_compute

CHURNS: dict[str, tuple[Callable[[int], Awaitable[None]], int]] = {
    "connections": (short_connections, 100_000),
    "timers": (timers, 1_000_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--loops", nargs="+", choices=FACTORIES, default=["ring", "selector"])
    for name, (_, count) in CHURNS.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"how many; {count} by default, 0 for none")
    for name in ("psycopg", *ALONE):
        parser.add_argument(
            f"--{name}", type=int, default=0, help="how many calls, some of them cancelled; none by default"
        )
    parser.add_argument("--cancels", type=float, default=0, help="seconds in which sources that fire are cancelled")
    parser.add_argument("--writes", type=float, default=0, help="seconds of writes with a computation after them")
    parser.add_argument("--flood", type=float, default=0, help="seconds of questions beside 100 fast senders")
    options = parser.parse_args()
    for variant in options.loops if options.cancels else ():
        with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
            print(f"{variant:10} {runner.run(cancels(options.cancels))}", flush=True)
    for variant in options.loops if options.writes else ():
        with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
            print(f"{variant:10} {runner.run(write_and_compute(options.writes, seed=time.time_ns()))}", flush=True)
    for variant in options.loops if options.flood else ():
        with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
            print(f"{variant:10} late is {LATE_S} s: {runner.run(flood(options.flood, 100))}", flush=True)
    print(f"{'loop':10} {'what':12} {'count':>9} {'per second':>10}  what stays: resident, blocks, descriptors")
    for variant in options.loops:
        for name, (churn, _) in CHURNS.items():
            count = getattr(options, name)
            if count:
                _report(variant, name, churn, count)
        for name, soak in ALONE.items():
            if count := getattr(options, name):
                _report(variant, name, soak, count)
    if options.psycopg:
        _soak_psycopg(options.loops, options.psycopg)


def _soak_psycopg(loops: Sequence[str], count: int) -> None:
    """With a PostgreSQL of its own, from Debian's package."""
    from tests.compat.libraries.databases import USER, postgresql  # it needs pytest

    with postgresql() as database:
        dsn = f"host=127.0.0.1 port={database.port} user={USER} dbname=postgres"
        for variant in loops:
            _report(variant, "psycopg", lambda count: psycopg_queries(count, dsn), count)


def _report(variant: str, name: str, churn: Callable[[int], Awaitable[None]], count: int) -> None:
    with asyncio.Runner(loop_factory=FACTORIES[variant]) as runner:
        start = time.perf_counter()
        left = runner.run(growth(churn, count // 10, count))
        per_second = count * 1.1 / (time.perf_counter() - start)
    print(
        f"{variant:10} {name:12} {count:9} {per_second:10.0f}  "
        f"{left.resident_bytes / 1024:.0f} KiB, {left.blocks}, {left.descriptors}",
        flush=True,
    )


if __name__ == "__main__":
    main()
