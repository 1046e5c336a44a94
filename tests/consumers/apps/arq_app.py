"""arq's worker, by its command line, and a program that gives it jobs and looks at their results.

arq tests.consumers.apps.arq_app.WorkerSettings
python -m tests.consumers.apps.arq_app
"""

import asyncio
import os
from typing import Any

from arq import Retry, create_pool
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus

import uringloop
from tests.consumers.reporting import report

# arq's command line imports this module before it makes its loop.
uringloop.install()

JOBS = 300
REDIS = RedisSettings("127.0.0.1", conn_timeout=100, port=int(os.environ["CONSUMERS_REDIS_PORT"]))


async def loop(context: dict[str, Any]) -> str:
    return report()


async def double(context: dict[str, Any], data: bytes) -> bytes:
    await asyncio.sleep(0.001)
    return data + data


async def third_time(context: dict[str, Any]) -> int:
    if context["job_try"] < 3:
        raise Retry(defer=0.01)
    tries: int = context["job_try"]
    return tries


async def endless(context: dict[str, Any]) -> None:
    await asyncio.Event().wait()


class WorkerSettings:
    functions = (loop, double, third_time, endless)
    redis_settings = REDIS
    allow_abort_jobs = True
    max_jobs = 20
    poll_delay = 0.05


async def main() -> None:
    pool = await create_pool(REDIS)

    async def job(name: str, *arguments: Any) -> Job:
        made = await pool.enqueue_job(name, *arguments)
        assert made is not None
        return made

    asking = asyncio.Semaphore(20)

    async def ask(number: int) -> None:
        data = number.to_bytes(2) * number
        async with asking:
            result = await (await job("double", data)).result(poll_delay=0.1)
        assert result == data + data

    aborted = await job("endless")
    await asyncio.gather(*map(ask, range(JOBS)))
    assert await (await job("third_time")).result(poll_delay=0.1) == 3
    assert await aborted.status() == JobStatus.in_progress
    assert await aborted.abort(poll_delay=0.1)
    print(await (await job("loop")).result(poll_delay=0.1))
    print(report())
    await pool.aclose()


if __name__ == "__main__":
    uringloop.run(main())
