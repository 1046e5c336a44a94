"""The rows of the table in docs/libraries.md: each library, its switch, its tests, and their findings."""

from dataclasses import dataclass

_COMPAT = "tests.compat.libraries"
_HERE = "tests.consumers"


@dataclass(frozen=True)
class Row:
    """A library in the table.

    `packages` are its distributions, the first of which gives the version.  `switch` is for its user to write.  `tests`
    are modules, or `module::prefix` for the tests of a module whose names begin so.  `found` tells of their findings.
    `venv` names the packages' own venv, where they do not go with the others.
    """

    packages: tuple[str, ...]
    switch: str
    tests: tuple[str, ...]
    found: str = ""
    venv: str = ""


def _compat(*names: str) -> tuple[str, ...]:
    return tuple(f"{_COMPAT}.test_{name}" for name in names)


def _here(*names: str) -> tuple[str, ...]:
    return tuple(f"{_HERE}.test_{name}" for name in names)


_NOTHING = "nothing: call it from what `uringloop.run` runs"

ROWS = (
    Row(
        ("uvicorn",),
        "`uvicorn --loop uringloop:new_event_loop application:app`, or this value in the variable `UVICORN_LOOP`",
        (*_compat("uvicorn"), *_here("uvicorn", "fastapi")),
        "`--loop uringloop` and `--loop asyncio` do not give this loop: [below](#uvicorn)",
    ),
    Row(
        ("gunicorn",),
        "with uvicorn's worker: `gunicorn -k workers.UringloopWorker application:app`, with the "
        "[`workers.py` below](#gunicorn); with `-k aiohttp.GunicornWebWorker`, or with `-k asgi --asgi-loop asyncio`: "
        "`uringloop.install()` in its configuration file",
        _compat("gunicorn"),
    ),
    Row(
        ("hypercorn",),
        "`uringloop.run(serve(app, config))`, where `serve` is `hypercorn.asyncio.serve`; or "
        "`hypercorn application:app`, with `uringloop.install()` in the application's module",
        (*_compat("hypercorn"), *_here("hypercorn")),
        "`install()` in its configuration file has no effect: [below](#hypercorn)",
    ),
    Row(
        ("granian",),
        "the [program below](#granian), with `loops.register`",
        _here("granian"),
        "granian's Rust half owns the sockets; the loop runs the application",
    ),
    Row(
        ("sanic",),
        "`uringloop.install()` and `app.config.USE_UVLOOP = False` in the application's module",
        _here("sanic"),
        "a SIGTERM that comes before its first process has seen all workers ready makes that wait for ever, on asyncio "
        "too; it kills workers that are not ready within 30 s",
    ),
    Row(("starlette",), "a server above", _here("starlette")),
    Row(("fastapi", "sse-starlette"), "a server above", _here("fastapi")),
    Row(
        ("quart",),
        "`uringloop.run(app.run_task())`",
        _here("quart"),
        "Quart does not close static files, on asyncio too: Python tells of them with `-W always::ResourceWarning`",
    ),
    Row(
        ("tornado",),
        "`uringloop.run(main())`",
        _here("tornado"),
        "its streams wait by `add_reader` and read their sockets themselves",
    ),
    Row(
        ("aiohttp",), "server: `web.run_app(app, loop=uringloop.new_event_loop())`; client: nothing", _compat("aiohttp")
    ),
    Row(
        ("anyio",),
        '`anyio.run(main, backend_options={"loop_factory": uringloop.new_event_loop})`',
        _compat("anyio"),
    ),
    Row(("httpx",), _NOTHING, _compat("httpx")),
    Row(("websockets",), _NOTHING, _compat("websockets")),
    Row(("asyncpg",), _NOTHING, _compat("asyncpg")),
    Row(
        ("psycopg",),
        _NOTHING,
        (*_compat("psycopg"), f"{_COMPAT}.test_soak::test_psycopg"),
        "it waits for its sockets by `add_reader` and `add_writer`",
    ),
    Row(
        ("redis",),
        _NOTHING,
        _compat("redis"),
        "on a machine with other work, thousands of connections at once exceed its limit of 5 s, on asyncio too",
    ),
    Row(
        ("aiomysql", "aio-pika", "nats-py", "aiosmtpd"),
        "`uringloop.streams.install()`, for [compiled streams](streams.md), as redis-py and aiohttp behind a proxy",
        _compat("installed_streams"),
        "MySQL, AMQP and NATS are small peers here",
    ),
    Row(("nats-py",), _NOTHING, _here("nats"), "against Debian's nats-server"),
    Row(
        ("sqlalchemy",),
        _NOTHING,
        _here("sqlalchemy"),
        "with asyncpg, psycopg and aiosqlite",
    ),
    Row(("aiosqlite",), _NOTHING, _here("aiosqlite")),
    Row(
        ("asyncssh",),
        _NOTHING,
        _here("asyncssh"),
    ),
    Row(("aioquic",), _NOTHING, _here("aioquic")),
    Row(("pyzmq",), _NOTHING, (f"{_COMPAT}.test_soak::test_pyzmq",)),
    Row(("grpcio",), _NOTHING, (f"{_COMPAT}.test_soak::test_grpc",)),
    Row(
        ("ipykernel", "jupyter-server", "nbclient", "nbconvert"),
        "the server: `uringloop.install()` in `jupyter_server_config.py`; the kernels: the same in "
        "`ipython_kernel_config.py`, [below](#jupyter); nbclient: nothing, within `uringloop.run`",
        _here("jupyter"),
        "kernels are processes of their own, and stay on asyncio's loop without their configuration",
    ),
    Row(
        ("textual",),
        "`uringloop.run(app.run_async())`, or `app.run(loop=uringloop.new_event_loop())`",
        _here("textual"),
        "on a pseudo-terminal",
    ),
    Row(
        ("prompt-toolkit",),
        "`uringloop.run(main())` with `prompt_async`; `uringloop.install()` for `prompt` and `Application.run`",
        _here("prompt_toolkit"),
        "on a pseudo-terminal",
    ),
    Row(
        ("arq",),
        "`uringloop.install()` in the module of the settings",
        _here("arq"),
        "against Debian's Redis; it needs a redis-py older than 6, and has a venv of its own",
        venv="arq",
    ),
    Row(
        ("nest-asyncio", "nest-asyncio2"),
        "nothing: `apply()` as ever",
        _compat("nest_asyncio"),
        "nest_asyncio itself knows Python up to 3.13",
    ),
    Row(
        ("trio",),
        "guest mode: `host_uses_signal_set_wakeup_fd=True`, to `trio.lowlevel.start_guest_run`",
        _compat("trio"),
    ),
    Row(("twisted",), "`asyncioreactor.install(loop)`", _compat("twisted")),
    Row(
        ("pytest-asyncio",),
        "the [`conftest.py` below](#pytest); anyio's plugin too",
        _compat("pytest_plugins"),
    ),
)
