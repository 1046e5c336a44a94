"""One write through io_uring by hand, without an event loop: stage it, submit it, read its completion.

    python examples/hello_ring.py

The functions are liburing's by name: io_uring_get_sqe, io_uring_prep_writev, io_uring_submit, io_uring_wait_cqe.
"""

import os
import sys

from uringloop.ring import Ring, RingUnavailableError

WORDS = [b"hello ", b"from the ", b"ring\n"]
OWN_POSITION = -1


def main() -> None:
    try:
        ring = Ring(entries=8)
    except RingUnavailableError as error:
        sys.exit(str(error))
    with ring:
        user_data = ring.get_sqe().prep_writev(sys.stdout.fileno(), WORDS, OWN_POSITION)
        submitted = ring.submit()
        completion = ring.wait_cqe()
    assert completion.user_data == user_data
    if completion.res < 0:
        sys.exit(f"writev: {os.strerror(-completion.res)}")
    print(f"{submitted} SQE submitted; its CQE: user_data {user_data}, res {completion.res} bytes written")


if __name__ == "__main__":
    main()
