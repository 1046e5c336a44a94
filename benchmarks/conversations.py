"""Conversations of libraries: psycopg, pyzmq and grpc.aio, which bring I/O of their own, and aioquic on datagrams.

`benchmarks.workers` asks them.

A conversation begins at its first question, and the later ones go on with it.  So what is measured is its messages.
"""

import asyncio
import functools
import importlib
import os
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import runner
from benchmarks.servers.listening import CERTIFICATE

#: Where PostgreSQL listens, in libpq's form.
DSN_VARIABLE = "URINGLOOP_BENCHMARK_DSN"
#: The module that each of QUESTIONS needs.
MODULES = {"psycopg": "psycopg", "pyzmq": "zmq.asyncio", "grpc": "grpc.aio", "aioquic": "aioquic.asyncio"}
MESSAGE = b"m" * 100
AT_ONCE = 8
SIZE_BYTES = 4


@functools.cache
def _module(name: str) -> Any:
    return importlib.import_module(name)


#: The objects of a conversation that has begun, by its name.
_begun: dict[str, Any] = {}


async def _connections(count: int) -> list[Any]:
    connections = _begun.setdefault("psycopg", [])
    while len(connections) < count:
        connect = _module("psycopg").AsyncConnection.connect
        connections.append(await connect(os.environ[DSN_VARIABLE], autocommit=True))
        # A backend starts a session of its own, and so loses the niceness of its postmaster's.
        runner.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        runner.make_nice(connections[-1].info.backend_pid)
    return list(connections[:count])


async def _select(connection: Any, count: int) -> None:
    for number in range(count):
        cursor = await connection.execute("SELECT %s::int", (number,))
        _checked(await cursor.fetchone() == (number,))


async def psycopg_select(count: int) -> None:
    """One connection that asks and waits."""
    (connection,) = await _connections(1)
    await _select(connection, count)


async def psycopg_select_8_at_once(count: int) -> None:
    connections = await _connections(AT_ONCE)
    await asyncio.gather(*(_select(connection, max(1, count // AT_ONCE)) for connection in connections))


async def psycopg_fetch_1000_rows(count: int) -> None:
    """An answer of many packets."""
    (connection,) = await _connections(1)
    for _ in range(count):
        cursor = await connection.execute("SELECT generate_series(1, 1000), repeat('x', 100)")
        rows = await cursor.fetchall()
        _checked(len(rows) == 1000 and rows[-1] == (1000, "x" * 100))


async def pyzmq_request_inproc(count: int) -> None:
    await _request(count, "inproc://benchmark")


async def pyzmq_request_tcp(count: int) -> None:
    await _request(count, "tcp://127.0.0.1:*")


async def _request(count: int, address: str) -> None:
    """REQ and REP in one loop."""
    if address not in _begun:
        zmq = _module("zmq")
        context = _module("zmq.asyncio").Context.instance()
        answering, asking = context.socket(zmq.REP), context.socket(zmq.REQ)
        answering.bind(address)
        asking.connect(answering.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0"))

        async def answer() -> None:
            while True:
                await answering.send(await answering.recv())

        _begun[address] = asking, asyncio.create_task(answer())
    asking, _ = _begun[address]
    for _ in range(count):
        await asking.send(MESSAGE)
        _checked(await asking.recv() == MESSAGE)


async def grpc_call(count: int) -> None:
    """Unary calls of 100 bytes, server and client in one loop."""
    await _call(count)


async def grpc_call_8_at_once(count: int) -> None:
    await asyncio.gather(*(_call(max(1, count // AT_ONCE)) for _ in range(AT_ONCE)))


async def _call(count: int) -> None:
    if "grpc" not in _begun:
        grpc = _module("grpc")
        server = _module("grpc.aio").server()

        async def echo(request: bytes, _: Any) -> bytes:
            return request

        methods = {"Call": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = _module("grpc.aio").insecure_channel(f"127.0.0.1:{port}")
        _begun["grpc"] = channel.unary_unary("/Echo/Call"), channel, server
    call, *_ = _begun["grpc"]
    for _ in range(count):
        _checked(await call(MESSAGE) == MESSAGE)


async def aioquic_request(count: int) -> None:
    """A question and an answer of 100 bytes, server and client in one loop."""
    await _ask_over_quic(count, len(MESSAGE))


async def aioquic_answer_of_1_mib(count: int) -> None:
    await _ask_over_quic(count, 1 << 20)


async def _ask_over_quic(count: int, size_bytes: int) -> None:
    if "aioquic" not in _begun:
        _begun["aioquic"] = await _begin_quic()
    reader, writer = _begun["aioquic"][0]
    for _ in range(count):
        writer.write(size_bytes.to_bytes(SIZE_BYTES, "big"))
        _checked(await reader.readexactly(size_bytes) == bytes(size_bytes))


async def _begin_quic() -> tuple[Any, ...]:
    """Return the streams of the client first, and then all that must stay."""
    quic, configuration = _module("aioquic.asyncio"), _module("aioquic.quic.configuration").QuicConfiguration
    serving = configuration(is_client=False)
    serving.load_cert_chain(CERTIFICATE, CERTIFICATE)
    answering: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(SIZE_BYTES):
            writer.write(bytes(int.from_bytes(size, "big")))

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.create_task(answer(reader, writer)))

    server = await quic.serve("127.0.0.1", 0, configuration=serving, stream_handler=begin)
    port = server._transport.get_extra_info("sockname")[1]
    connecting = quic.connect("127.0.0.1", port, configuration=configuration(verify_mode=ssl.CERT_NONE))
    client = await connecting.__aenter__()
    return await client.create_stream(), connecting, server, answering


def _checked(right: bool) -> None:
    if not right:
        raise ValueError("the answer is wrong")


QUESTIONS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    question.__name__: question
    for question in (
        psycopg_select,
        psycopg_select_8_at_once,
        psycopg_fetch_1000_rows,
        pyzmq_request_inproc,
        pyzmq_request_tcp,
        grpc_call,
        grpc_call_8_at_once,
        aioquic_request,
        aioquic_answer_of_1_mib,
    )
}
