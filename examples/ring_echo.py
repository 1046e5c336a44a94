"""An echo server on a ring without an event loop: one accept, one receive for each connection, buffers of a group.

    python examples/ring_echo.py --port 9000

Accepting and receiving are multishot: staged once, they complete again and again.  The kernel picks a buffer when there
is something to receive, so idle connections need none; what was received is sent from that same buffer, which is
recycled when the send has completed.
"""

import argparse
import errno
import os
import signal
import socket
import sys
from typing import NoReturn

from uringloop.operations import SendAll
from uringloop.ring import ACCEPT_MULTISHOT, BufferGroup, Completion, Opcode, Ring, RingUnavailableError, SqeFlag

RECEIVE_MULTISHOT = 1 << 1


class Connection:
    """One of them; what is received is sent in order, one send at a time."""

    def __init__(self, server: "Server", fd: int) -> None:
        self.server = server
        self.fd = fd
        self.is_receiving = False
        self.unsent: list[memoryview] = []
        self.receive()

    def receive(self) -> None:
        sqe = self.server.ring.get_sqe()
        sqe.data = self
        flags, group_id = SqeFlag.BUFFER_SELECT, self.server.group.group_id
        sqe.prep(Opcode.RECV, self.fd, flags=flags, buf_index=group_id, ioprio=RECEIVE_MULTISHOT)
        self.is_receiving = True

    def received(self, completion: Completion) -> None:
        self.is_receiving = completion.more
        if completion.res > 0:
            # The view holds the loan; both are dropped when the bytes are sent, and then the buffer is recycled.
            self.unsent.append(memoryview(self.server.group.lend(completion)))
            if len(self.unsent) == 1:
                self.send()
            if not completion.more:
                self.receive()
        elif completion.res == -errno.ENOBUFS and self.unsent:
            pass  # all buffers wait to be sent: `sent` receives again
        elif completion.res == -errno.ENOBUFS:
            self.receive()
        else:
            self.end()

    def send(self) -> None:
        operation = self.server.ring.prepare(SendAll(self.fd, self.unsent[0], 0))
        self.server.sends[operation] = self

    def sent(self, completion: Completion) -> None:
        self.unsent.pop(0)
        if completion.res < 0:
            self.unsent.clear()
            self.end()
        elif self.unsent:
            self.send()
        elif not self.is_receiving:
            self.receive()

    def end(self) -> None:
        """No more is received; closed when all is sent."""
        if not self.is_receiving and not self.unsent and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.server.served += 1


class Server:
    """The listening socket, and what completes.

    Args:
        ring: that of this thread.
        listener: a listening socket.
    """

    def __init__(self, ring: Ring, listener: socket.socket) -> None:
        self.ring = ring
        self.group: BufferGroup = ring.open_group(256, 16 << 10)
        self.sends: dict[object, Connection] = {}
        self.served = 0
        self.accepting = ring.get_sqe()
        self.accepting.prep(Opcode.ACCEPT, listener.fileno(), op_flags=socket.SOCK_CLOEXEC, ioprio=ACCEPT_MULTISHOT)

    def serve(self) -> None:
        """Until a signal's handler raises."""
        for completion in self.ring.completions():
            if completion.operation is self.accepting:
                Connection(self, completion.result())
            elif completion.operation in self.sends:
                self.sends.pop(completion.operation).sent(completion)
            else:
                completion.operation.data.received(completion)


def stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo server on a bare ring.")
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        ring = Ring()
    except RingUnavailableError as error:
        sys.exit(str(error))
    with ring, socket.create_server(("127.0.0.1", options.port)) as listener:
        server = Server(ring, listener)
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]} (bare ring)", flush=True)
        try:
            server.serve()
        except KeyboardInterrupt:
            print(f"served {server.served} connections")


if __name__ == "__main__":
    main()
