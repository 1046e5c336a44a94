"""One soak on one loop, in a process of its own: prints its counts as JSON.

With `--serve` it is a worker on a socket that it inherits.
"""

import argparse
import asyncio
import dataclasses
import json
import resource
import socket
import sys
from collections.abc import Awaitable, Callable
from random import Random

from benchmarks.contenders import factory
from tests.load import workers

from .counts import Counts
from .crowds import floods, too_few_descriptors
from .rude import rude_peers
from .spawning import spawn_under_load
from .storms import cancel_storm, connects_cancelled
from .wakeups import calls_of_threads

Soak = Callable[[float, Random], Awaitable[Counts]]

#: By name, those that run on the loop that is judged.
SOAKS: dict[str, Soak] = {
    "cancel storm": cancel_storm,
    "connects cancelled": connects_cancelled,
    "calls of threads": calls_of_threads,
    "children": spawn_under_load,
    "rude TLS peers": rude_peers,
    "no descriptors": too_few_descriptors,
    "floods": floods,
}
#: Workers are processes, and their clients stand on asyncio.
WORKERS = "workers replaced"
NAMES = (*SOAKS, WORKERS)


async def workers_replaced(loop: str, seconds: float) -> Counts:
    """Ask four workers on one socket, while they end, reload and compute.

    Args:
        loop: The contender that each worker runs.
        seconds: For how long.

    Returns:
        What became of the clients; those of a worker that was killed are not counted.
    """
    serving = ["-m", "tests.trust.child", loop, WORKERS, "--serve"]
    outcome = await workers.soak(serving, seconds, unix=False)
    lost = outcome.unanswered + outcome.refused + outcome.reset
    return Counts(done=outcome.answered.total(), lost=lost, late=outcome.late)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.trust.child", description=__doc__)
    parser.add_argument("loop")
    parser.add_argument("soak", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", type=int, metavar="DESCRIPTOR")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.soak == WORKERS and options.serve is None:
        counts = asyncio.run(workers_replaced(options.loop, options.seconds))
    else:
        with asyncio.Runner(loop_factory=factory(options.loop)) as runner:
            if options.serve is not None:
                with socket.socket(fileno=options.serve) as sock:
                    runner.run(workers.serve(sock))
                return
            counts = runner.run(_run(SOAKS[options.soak], options.seconds, Random(options.seed)))
    json.dump(dataclasses.asdict(counts), sys.stdout)


async def _run(soak: Soak, seconds: float, random: Random) -> Counts:
    return await soak(seconds, random)


if __name__ == "__main__":
    main()
