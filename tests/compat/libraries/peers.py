"""Small peers of libraries whose servers are large: each speaks as much of the protocol as the tests ask for.

They are callbacks for `asyncio.start_server`: MySQL, AMQP 0.9.1 (RabbitMQ), NATS, and a proxy that tunnels by CONNECT.
"""

import asyncio
import collections
import contextlib
import struct
from typing import Any

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

# MySQL

_MYSQL_OK = b"\0\0\0\2\0\0\0"
_MYSQL_EOF = b"\xfe\0\0\2\0"
_MYSQL_GREETING = b"".join(
    [
        b"\x0a8.0.0\0",
        struct.pack("<I", 1),
        b"a" * 8 + b"\0",
        struct.pack("<HBHHB", 0xF7FF, 45, 2, 0x00FF, 21),
        bytes(10),
        b"a" * 12 + b"\0",
        b"mysql_native_password\0",
    ]
)


def _mysql_text(text: bytes) -> bytes:
    return (bytes([len(text)]) if len(text) < 251 else b"\xfd" + len(text).to_bytes(3, "little")) + text


async def mysql(reader: Reader, writer: Writer) -> None:
    """Answer `SELECT n, size` with n rows of a number and so many bytes, and everything else with OK."""

    def send(number: int, *packets: bytes) -> None:
        for packet in packets:
            writer.write(len(packet).to_bytes(3, "little") + bytes([number % 256]) + packet)
            number += 1

    async def receive() -> bytes:
        head = await reader.readexactly(4)
        return await reader.readexactly(int.from_bytes(head[:3], "little"))

    with contextlib.suppress(asyncio.IncompleteReadError):
        send(0, _MYSQL_GREETING)
        await receive()
        send(2, _MYSQL_OK)
        while (command := await receive())[0] != 1:  # COM_QUIT
            if not command[1:].startswith(b"SELECT"):
                send(1, _MYSQL_OK)
                continue
            count, size = map(int, command[7:].split(b","))
            columns = [
                b"".join(map(_mysql_text, [b"def", b"", b"", b"", name, b""]))
                + struct.pack("<BHIBHBH", 12, 45, 1024, kind, 0, 0, 0)
                for name, kind in ((b"number", 8), (b"text", 253))
            ]
            rows = [_mysql_text(b"%d" % number) + _mysql_text(b"x" * size) for number in range(count)]
            send(1, bytes([len(columns)]), *columns, _MYSQL_EOF, *rows, _MYSQL_EOF)
            await writer.drain()
    writer.close()


# AMQP


class Amqp:
    """A broker of queues that are read by one consumer each."""

    def __init__(self, frame: Any, commands: Any) -> None:
        self._pamqp, self._commands = frame, commands

    async def serve(self, reader: Reader, writer: Writer) -> None:
        command = self._commands
        plain = {
            command.Channel.Open: command.Channel.OpenOk(),
            command.Confirm.Select: command.Confirm.SelectOk(),
            command.Basic.Qos: command.Basic.QosOk(),
            command.Channel.Close: command.Channel.CloseOk(),
        }

        def send(channel: int, *frames: Any) -> None:
            writer.write(b"".join(self._pamqp.marshal(each, channel) for each in frames))

        async def receive() -> tuple[int, Any]:
            head = await reader.readexactly(7)
            rest = await reader.readexactly(int.from_bytes(head[3:], "big") + 1)
            _, channel, frame = self._pamqp.unmarshal(head + rest)
            return channel, frame

        assert await reader.readexactly(8) == b"AMQP\0\0\x09\x01"
        send(
            0,
            command.Connection.Start(
                0, 9, {"product": "peer", "capabilities": {"publisher_confirms": True}}, "PLAIN", "en_US"
            ),
        )
        await receive()
        send(0, command.Connection.Tune(2047, 131072, 0))
        published = 0
        consumers: dict[str, str] = {}
        waiting: dict[str, list[tuple[Any, bytes]]] = collections.defaultdict(list)
        while True:
            channel, frame = await receive()
            if type(frame) in plain:
                send(channel, plain[type(frame)])
            elif isinstance(frame, command.Connection.Open):
                send(0, command.Connection.OpenOk())
            elif isinstance(frame, command.Connection.Close):
                send(0, command.Connection.CloseOk())
                break
            elif isinstance(frame, command.Queue.Declare):
                send(channel, command.Queue.DeclareOk(frame.queue, 0, 0))
            elif isinstance(frame, command.Basic.Consume):
                consumers[frame.queue] = frame.consumer_tag
                send(channel, command.Basic.ConsumeOk(frame.consumer_tag))
            elif isinstance(frame, command.Basic.Cancel):
                send(channel, command.Basic.CancelOk(frame.consumer_tag))
            elif isinstance(frame, command.Basic.Publish):
                _, header = await receive()
                body = b""
                while len(body) < header.body_size:
                    body += (await receive())[1].value
                published += 1
                waiting[frame.routing_key].append((header, body))
                send(channel, command.Basic.Ack(published))
            for queue, consumer in consumers.items():
                for number, (header, body) in enumerate(waiting.pop(queue, [])):
                    delivery = command.Basic.Deliver(consumer, published + number, False, "", queue)
                    parts = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
                    send(channel, delivery, header, *(self._content(part) for part in parts))
            await writer.drain()
        writer.close()

    def _content(self, part: bytes) -> Any:
        from pamqp.body import ContentBody

        return ContentBody(part)


# NATS


class Nats:
    """A server of subjects without wildcards."""

    def __init__(self) -> None:
        self._subscribers: dict[bytes, list[tuple[Writer, bytes]]] = collections.defaultdict(list)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        writer.write(b'INFO {"server_id":"peer","version":"2.9.0","proto":1,"max_payload":1048576}\r\n')
        async for line in reader:
            match line.split():
                case [b"PING"]:
                    writer.write(b"PONG\r\n")
                case [b"SUB", subject, *_, number]:
                    self._subscribers[subject].append((writer, number))
                case [b"PUB", subject, *reply, size]:
                    data = (await reader.readexactly(int(size) + 2))[:-2]
                    for other, number in self._subscribers[subject]:
                        head = b" ".join([b"MSG", subject, number, *reply, size])
                        other.write(b"%b\r\n%b\r\n" % (head, data))
        writer.close()


# A proxy


async def proxy(reader: Reader, writer: Writer) -> None:
    """Connect to the host that CONNECT names, and pass the bytes on in both directions."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, address, _ = head.partition(b"\r\n")[0].split()
    assert method == b"CONNECT"
    host, _, port = address.decode().rpartition(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async def pump(source: Reader, sink: Writer) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
