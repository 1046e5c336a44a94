"""What may happen on a connection, as scripts: each acts on the near end, and the far one answers.

The bodies wait for callbacks only, so that what they log does not depend on time.  The far end serves the near one:
its log is compared as well, unless the script says that it depends on the kernel (a reset may overtake bytes).
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from .recorder import Notes, kernel_socket

Script = Callable[[Notes, Notes], Awaitable[None]]

#: More than the kernel and the receive buffers take for a peer that does not read.
MUCH_BYTES = 6 << 20

SCRIPTS: dict[str, Script] = {}


def script(function: Script) -> Script:
    SCRIPTS[function.__name__] = function
    return function


def fail() -> None:
    raise ZeroDivisionError("in a callback")


async def both_lost(near: Notes, far: Notes) -> None:
    await near.until("connection_lost")
    await far.until("connection_lost")


def fill(near: Notes, far: Notes) -> None:
    """Have the near end's queue full, for a far end that does not read."""
    far.transport.pause_reading()
    near.transport.write(bytes(MUCH_BYTES))


def reset(end: Notes) -> None:
    """End a connection so that its peer sees a reset."""
    kernel_socket(end).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()


# Ends


@script
async def close(near: Notes, far: Notes) -> None:
    near.transport.close()
    near.mark_turns()
    await both_lost(near, far)


@script
async def abort(near: Notes, far: Notes) -> None:
    far.compared = near.transport.can_write_eof()  # what TLS has not read yet makes the kernel send a reset
    near.transport.abort()
    near.mark_turns()
    await both_lost(near, far)


@script
async def close_twice_then_abort_twice(near: Notes, far: Notes) -> None:
    for end in ("close", "close", "abort", "abort"):
        getattr(near.transport, end)()
    near.mark_turns()
    await both_lost(near, far)
    near.transport.close()
    near.transport.abort()


@script
async def abort_then_close(near: Notes, far: Notes) -> None:
    far.compared = near.transport.can_write_eof()
    near.transport.abort()
    near.transport.close()
    near.mark_turns()
    await both_lost(near, far)


@script
async def both_close_at_once(near: Notes, far: Notes) -> None:
    near.transport.close()
    far.transport.close()
    await both_lost(near, far)


@script
async def close_after_the_peer_is_gone(near: Notes, far: Notes) -> None:
    far.transport.close()
    await both_lost(near, far)
    near.transport.close()
    near.mark_turns()
    await asyncio.sleep(0)


@script
async def close_with_a_queue(near: Notes, far: Notes) -> None:
    fill(near, far)
    near.transport.close()
    near.note("closing", near.transport.is_closing())
    far.transport.resume_reading()
    await both_lost(near, far)


@script
async def abort_with_a_queue(near: Notes, far: Notes) -> None:
    fill(near, far)
    near.transport.abort()
    near.mark_turns()
    await near.until("connection_lost")
    far.compared = False


@script
async def abort_while_closing_with_a_queue(near: Notes, far: Notes) -> None:
    fill(near, far)
    near.transport.close()
    await asyncio.sleep(0)
    near.transport.abort()
    near.mark_turns()
    await near.until("connection_lost")
    far.compared = False


@script
async def a_reset(near: Notes, far: Notes) -> None:
    reset(far)
    await both_lost(near, far)


@script
async def a_reset_with_a_queue(near: Notes, far: Notes) -> None:
    is_unix = kernel_socket(near).family == socket.AF_UNIX
    fill(near, far)
    reset(far)
    await both_lost(near, far)
    if is_unix:
        # The kernel has two errors for this, and which comes first is its own business.
        near.log[-1] = near.log[-1][:1]


@script
async def a_reset_while_reading_is_paused(near: Notes, far: Notes) -> None:
    near.transport.pause_reading()
    reset(far)
    await far.until("connection_lost")
    near.note("paused")
    near.transport.resume_reading()
    await near.until("connection_lost")


# Bytes


@script
async def messages(near: Notes, far: Notes) -> None:
    for number in range(3):
        near.transport.write(b"to %d" % number)
        await far.until_bytes(4 * (number + 1))
        far.transport.write(b"fro %d" % number)
        await near.until_bytes(5 * (number + 1))
        near.note("both had", number)


@script
async def writes_of_every_kind(near: Notes, far: Notes) -> None:
    near.transport.write(b"bytes")
    near.transport.write(bytearray(b"array"))
    near.transport.write(memoryview(b"view"))
    near.transport.write(b"")
    near.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b""])
    near.transport.writelines([])
    near.transport.writelines(bytes([letter]) for letter in b"xyz")
    await far.until_bytes(20)


@script
async def much_each_way(near: Notes, far: Notes) -> None:
    for end in (near, far):
        end.transport.set_write_buffer_limits(high=MUCH_BYTES)
        end.transport.write(bytes(range(256)) * 1024)
    await near.until_bytes(1 << 18)
    await far.until_bytes(1 << 18)


@script
async def bytes_then_close(near: Notes, far: Notes) -> None:
    near.transport.write(b"last words")
    near.transport.close()
    await both_lost(near, far)


@script
async def writing_after_close(near: Notes, far: Notes) -> None:
    near.transport.close()
    for _ in range(7):
        near.transport.write(b"ignored")
    await both_lost(near, far)


@script
async def writing_to_a_peer_that_is_gone(near: Notes, far: Notes) -> None:
    if not near.transport.can_write_eof():
        return
    near.keeps_open = True
    far.transport.abort()
    await far.until("connection_lost")
    await near.until("eof_received")
    # The first write is answered by a reset, the second one fails.
    near.transport.write(b"x")
    await asyncio.sleep(0)
    while not near.was_called("connection_lost"):
        near.transport.write(b"x")
        await asyncio.sleep(0)
    near.log = [entry[:1] for entry in near.log]


@script
async def another_protocol_takes_over(near: Notes, far: Notes) -> None:
    other = type(near)()
    near.reactions["data"] = lambda: near.transport.set_protocol(other)
    far.transport.write(b"one")
    await near.until_bytes(3)
    near.note("protocol", near.transport.get_protocol() is other)
    far.transport.write(b"two")
    await other.until_bytes(3)
    far.transport.close()
    await other.until("connection_lost")
    near.log += other.log
    near.note("connection_lost")


# Half-closing


@script
async def eof_that_closes(near: Notes, far: Notes) -> None:
    near.transport.write(b"all")
    if near.transport.can_write_eof():
        near.transport.write_eof()
        near.note("eof written")
        near.mark_turns()
        await both_lost(near, far)


@script
async def eof_that_keeps_open(near: Notes, far: Notes) -> None:
    if not near.transport.can_write_eof():
        return
    far.keeps_open = True
    near.transport.write_eof()
    near.transport.write_eof()
    await far.until("eof_received")
    far.transport.write(b"still")
    await near.until_bytes(5)
    far.transport.write(b" open")
    far.transport.write_eof()
    await both_lost_or_closed(near, far)


async def both_lost_or_closed(near: Notes, far: Notes) -> None:
    await near.until("eof_received")
    await near.until("connection_lost")
    far.transport.close()
    await far.until("connection_lost")


@script
async def eof_behind_a_queue(near: Notes, far: Notes) -> None:
    if not near.transport.can_write_eof():
        return
    fill(near, far)
    near.transport.write_eof()
    far.transport.resume_reading()
    await both_lost(near, far)


@script
async def close_after_eof(near: Notes, far: Notes) -> None:
    if not near.transport.can_write_eof():
        return
    far.keeps_open = True
    near.transport.write_eof()
    near.transport.close()
    await near.until("connection_lost")
    await far.until("eof_received")
    far.transport.close()


@script
async def eof_while_reading_is_paused(near: Notes, far: Notes) -> None:
    if not near.transport.can_write_eof():
        # The end of TLS is agreed on by both, which takes reading.
        return
    near.transport.pause_reading()
    far.transport.write(b"before the end")
    far.transport.close()
    await far.until("connection_lost")
    near.note("paused")
    near.transport.resume_reading()
    await near.until("connection_lost")


# Flow


@script
async def reading_paused_and_resumed(near: Notes, far: Notes) -> None:
    near.transport.pause_reading()
    near.transport.pause_reading()
    near.note("reading", near.transport.is_reading())
    far.transport.write(b"held")
    for _ in range(5):
        await asyncio.sleep(0)
    near.note("resuming")
    near.transport.resume_reading()
    near.transport.resume_reading()
    near.note("reading", near.transport.is_reading())
    await near.until_bytes(4)


@script
async def closing_while_reading_is_paused(near: Notes, far: Notes) -> None:
    near.transport.pause_reading()
    far.transport.write(b"never seen")
    await asyncio.sleep(0)
    near.transport.close()
    near.transport.resume_reading()
    near.note("reading", near.transport.is_reading())
    await both_lost(near, far)
    far.compared = False


@script
async def writing_paused_and_resumed(near: Notes, far: Notes) -> None:
    near.transport.set_write_buffer_limits(high=0)
    fill(near, far)
    near.note("more is queued", near.transport.get_write_buffer_size() > 0)
    near.transport.write(b"more")
    far.transport.resume_reading()
    await near.until("resume_writing")
    await far.until_bytes(MUCH_BYTES + 4)
    near.note("queued", near.transport.get_write_buffer_size())


@script
async def writing_more_when_resumed(near: Notes, far: Notes) -> None:
    if not near.transport.can_write_eof():
        return
    fill(near, far)

    def write_more() -> None:
        # Once, lest it goes on for ever.
        del near.reactions["resume_writing"]
        near.transport.write(b"more")

    near.reactions["resume_writing"] = write_more
    far.transport.resume_reading()
    await far.until_bytes(MUCH_BYTES + 4)
    near.transport.close()
    await both_lost(near, far)


@script
async def limits(near: Notes, far: Notes) -> None:
    for options in ({}, {"high": 100}, {"low": 10}, {"high": 5, "low": 5}, {"high": 0}):
        near.transport.set_write_buffer_limits(**options)
        near.note("limits", near.transport.get_write_buffer_limits())


def _add_callback_scripts() -> None:
    """In each callback each thing that may be done there."""

    def provoke(callback: str) -> Callable[[Notes, Notes], None]:
        def data(near: Notes, far: Notes) -> None:
            far.transport.write(b"data")

        def end(near: Notes, far: Notes) -> None:
            far.transport.write(b"data")
            far.transport.close()

        def pause(near: Notes, far: Notes) -> None:
            fill(near, far)
            far.transport.resume_reading()

        def lose(near: Notes, far: Notes) -> None:
            near.transport.close()

        return {
            "data": data,
            "get_buffer": data,
            "eof_received": end,
            "pause_writing": pause,
            "resume_writing": pause,
            "connection_lost": lose,
        }[callback]

    def add(callback: str, act: str) -> None:
        async def run(near: Notes, far: Notes) -> None:
            if callback == "get_buffer" and not isinstance(near, asyncio.BufferedProtocol):
                return
            if callback in ("get_buffer", "pause_writing", "resume_writing") and not near.transport.can_write_eof():
                # TLS calls these for its own records, at moments that are not the same each time.
                return
            actions = {
                "raise": fail,
                "close": lambda: near.transport.close(),
                "abort": lambda: near.transport.abort(),
                "write_and_close": lambda: (near.transport.write(b"bye"), near.transport.close()),
            }
            near.reactions[callback] = actions[act]
            provoke(callback)(near, far)
            if callback in ("pause_writing", "resume_writing") and act == "raise":
                await far.until_bytes(MUCH_BYTES)
                await near.until("resume_writing")
                return
            await near.until("connection_lost")
            await far.until("connection_lost")
            # How much of what was under way still arrives is the kernel's doing.
            far.compared = False

        SCRIPTS[f"{act}_in_{callback}"] = run

    for callback in ("data", "get_buffer", "eof_received", "pause_writing", "resume_writing", "connection_lost"):
        for act in ("raise", "close", "abort", "write_and_close"):
            add(callback, act)


_add_callback_scripts()
