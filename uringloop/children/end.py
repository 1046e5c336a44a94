"""`open_end`: a descriptor that becomes readable when a child ends.

It is a pidfd.  Where pidfd_open(2) is refused, as by older sandboxes, it is a pipe.  A thread that waits for the child
closes the other end.
"""

import os
import signal
import threading


def open_end(pid: int) -> int:
    """Return a descriptor that becomes readable when the child ends; the caller closes it.

    Args:
        pid: a child that nothing else waits for.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        return _open_by_thread(pid)


def send_signal(end: int, pid: int, signum: int) -> None:
    """Send a signal to a child that nothing has waited for yet.

    Args:
        end: its descriptor of `open_end`.
        pid: its process id.

    Raises:
        PermissionError: the child has another user's rights (a setuid program).
        OSError: the signal does not exist.
    """
    try:
        signal.pidfd_send_signal(end, signum)
    except ProcessLookupError:
        raise
    except OSError:
        # The process id still names the child, since it is a zombie until the wait.
        os.kill(pid, signum)


def _open_by_thread(pid: int) -> int:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    thread = threading.Thread(target=_wait, args=(pid, writing), name=f"waits for {pid}", daemon=True)
    try:
        thread.start()
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    return reading


def _wait(pid: int, writing: int) -> None:
    """Close the descriptor when the child has ended, which stays a zombie."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except OSError:
        pass  # other code has waited for it
    finally:
        os.close(writing)
