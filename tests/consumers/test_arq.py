"""arq with Redis: `install()` in the module of the settings; jobs are asked for by a client on `uringloop.run`.

It needs an older client of Redis than the other tests, so it has a venv of its own.
"""

import json

from tests.compat.libraries.databases import Database
from tests.compat.libraries.processes import running

from .load import check_loop
from .venvs import python_of


def test_jobs(backend: str, redis_server: Database) -> None:
    python = [python_of("arq"), "-W", "always::ResourceWarning", "-m"]
    variables = {"URINGLOOP_BACKEND": backend, "CONSUMERS_REDIS_PORT": str(redis_server.port)}
    with running([*python, "arq", "tests.consumers.apps.arq_app.WorkerSettings"], **variables) as worker:
        with running([*python, "tests.consumers.apps.arq_app"], **variables) as client:
            assert client.wait() == 0
            reports = [json.loads(line) for line in client.output.splitlines()]
        for report in reports:
            check_loop(report, backend)
        assert reports[0]["pid"] == worker.process.pid != reports[1]["pid"]
        assert worker.stop() == 0
