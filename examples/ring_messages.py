"""Threads with a ring each, which send each other messages through the kernel (MSG_RING).

    python examples/ring_messages.py

Workers square numbers.  A worker sleeps in its ring until a message is there; the answer is another message, to the
main thread's ring.  No queue, no lock, no eventfd, and the same wait could be for sockets and files as well.
"""

import sys
import threading

from uringloop.ring import Opcode, Ring, RingUnavailableError, message_user_data

WORKERS = 3
STOP = 0


def send(ring: Ring, target_fd: int, number: int, value: int) -> None:
    """A completion with this number and result appears on the other ring."""
    ring.get_sqe().prep(Opcode.MSG_RING, target_fd, 0, value, message_user_data(number))
    ring.submit()


def work(name: int, main_fd: int, fds: list[int], is_ready: threading.Barrier) -> None:
    """Answer each message with its value squared, until one says stop."""
    with Ring(8) as ring:
        fds[name] = ring.fd
        is_ready.wait()
        while True:
            completion = ring.wait_cqe()
            if completion.number is None:
                completion.result()  # of an answer that was sent
            elif completion.number == STOP:
                return
            else:
                send(ring, main_fd, completion.number, completion.res**2)


def main() -> None:
    try:
        ring = Ring()
    except RingUnavailableError as error:
        sys.exit(str(error))
    with ring:
        fds = [-1] * WORKERS
        is_ready = threading.Barrier(WORKERS + 1)
        arguments = [(name, ring.fd, fds, is_ready) for name in range(WORKERS)]
        threads = [threading.Thread(target=work, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        is_ready.wait()
        for number in range(1, 10):
            send(ring, fds[number % WORKERS], number, number)
        squares = {}
        while len(squares) < 9:
            completion = ring.wait_cqe()
            if completion.number is not None:
                squares[completion.number] = completion.result()
        for fd in fds:
            send(ring, fd, STOP, 0)
        for thread in threads:
            thread.join()
    print(" ".join(f"{number}^2={squares[number]}" for number in sorted(squares)))


if __name__ == "__main__":
    main()
