"""Child processes: their start suspends no loop, and their end needs neither a thread nor a signal.

A start has two steps.  `Popen` makes the child at once.  A pipe, polled on the ring, then tells that the program runs
or why it cannot.  A pidfd (pidfd_open(2)), polled on the ring from before the child can end, tells of its end.  So no
child stays a zombie, even if the starting task is cancelled.  The pidfd also names the child for signals: after a wait
elsewhere its process id may belong to another process.

On 3.11 to 3.13 asyncio would ask its policy for a child watcher; this loop uses none.
"""

import asyncio
import contextlib
import logging
import os
import select
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..hooks import PrivateProcessTransport, popen_is_known
from ..operations import Poll
from ..operations.file import Ready
from ..shielding import until_done
from .end import open_end, send_signal
from .popen import Popen
from .spawn import Report

if TYPE_CHECKING:
    from ..loop import EventLoop

_log = logging.getLogger("asyncio")

#: The return code of a child whose exit status was taken elsewhere.
_UNKNOWN_RETURNCODE = 255
#: A debugger is told of the end before the parent is.
_TRACED_RETRY_S = 0.01
#: A debugger may stop a child before it leaves this process's table of descriptors; a busy machine only delays it.
_SETTLING_MAX_MS = 1000


class Child:
    """One child process until its end.

    Args:
        loop: polls the pidfd on its ring.
        popen: the child; no other code waits for it.
        pidfd: the child's, or another descriptor of `open_end`; this object owns it from now on.

    Attributes:
        exited: becomes the return code, as in `subprocess.Popen.returncode`.
    """

    _pidfd = -1

    def __init__(self, loop: "EventLoop", popen: "subprocess.Popen[bytes]", pidfd: int) -> None:
        self.popen = popen
        self.exited: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._pidfd = pidfd
        self._watch()

    def _watch(self) -> None:
        self._poll = Poll(self._pidfd, select.POLLIN, False, self._ended)
        self._poll.submit(self._loop._dispatcher)

    def _ended(self) -> None:
        self._poll.abandon()
        try:
            returncode = self._take_returncode()
        except OSError as error:
            returncode = self._learn_otherwise(error)
        else:
            if returncode is None:
                self._loop.call_later(_TRACED_RETRY_S, self._watch)
                return
            if self._loop.get_debug():
                _log.debug("process %s exited with returncode %s", self.popen.pid, returncode)
        self._close()
        if self.popen.returncode is None:
            self.popen.returncode = returncode
        if not self.exited.done():
            self.exited.set_result(returncode)

    def _take_returncode(self) -> int | None:
        """Wait for the child, which has ended.

        A filter may refuse waitid(2).  waitpid(2) is right too: before the wait the process id names no other process.

        Returns:
            The return code, or None if a debugger still holds the child.

        Raises:
            OSError: other code has waited for the child, or both ways to wait are refused.
        """
        try:
            status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            raise
        except OSError:
            pid, code = os.waitpid(self.popen.pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(code) if pid else None
        if status is None:
            return None
        return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status

    def _learn_otherwise(self, error: OSError) -> int:
        """Return the code of a Popen object that has waited for the child itself, or else 255, with a warning."""
        if self.popen.returncode is not None:
            return int(self.popen.returncode)
        what = "already read" if isinstance(error, ChildProcessError) else f"cannot be read ({error.strerror})"
        _log.warning(
            "child process pid %d exit status %s: will report returncode %d", self.popen.pid, what, _UNKNOWN_RETURNCODE
        )
        return _UNKNOWN_RETURNCODE

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the child has ended.

        Raises:
            PermissionError: the child has another user's rights (a setuid program).
            OSError: the signal does not exist.
        """
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                send_signal(self._pidfd, self.popen.pid, signum)

    def _close(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __del__(self) -> None:
        # The loop was closed before the child ended.
        self._close()


class ProcessTransport(PrivateProcessTransport):
    """See `asyncio.SubprocessTransport`."""

    def _start(self, *, child: Child, **arguments: Any) -> None:
        self._child = child
        self._proc = child.popen
        child.exited.add_done_callback(lambda exited: self._process_exited(exited.result()))

    def close(self) -> None:
        if self._loop is not None and self._loop.is_closed():
            # The pipes' close needs the loop; dropped, they close without it.
            self._pipes.clear()
        super().close()

    def send_signal(self, signal: int) -> None:
        """Send a signal, unless the child has ended.

        Raises:
            ProcessLookupError: the child has ended, and its pipes are closed.
        """
        self._check_proc()
        self._child.send_signal(signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def start_process(
    loop: "EventLoop",
    protocol: asyncio.BaseProtocol,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    extra: dict[str, Any] | None,
    **options: Any,
) -> ProcessTransport:
    """Start a child process; see `asyncio.loop.subprocess_exec`.

    Returns:
        Its transport, with connected pipes.

    Raises:
        OSError: the program cannot be run.  Bad arguments raise the exceptions of subprocess.Popen.
        asyncio.CancelledError: the child was killed and has ended, unless the task is cancelled once more.
    """
    options |= {"shell": shell, "stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": bufsize}
    if popen_is_known():
        child = await _start(loop, partial(Popen, args, **options))
    else:
        if options.get("env") is not None:
            # The caller may change it before the thread reads it.
            options["env"] = dict(options["env"])
        make: Any = partial(subprocess.Popen, args, **options)
        child = await _start_elsewhere(loop, make)
    waiter = loop.create_future()
    transport = ProcessTransport(
        loop, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter, extra, child=child
    )
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await transport._wait()
        raise
    return transport


async def _start(loop: "EventLoop", make: Callable[[], Popen]) -> Child:
    """Make the child here, and wait until it runs its program."""
    popen = make()
    child = Child(loop, popen, popen.pidfd)
    # A child that is killed before its report.
    child.exited.add_done_callback(lambda _: popen.spawn.close_duplicates())
    try:
        report = await _report(loop, popen)
    except asyncio.CancelledError:
        child.send_signal(signal.SIGKILL)
        child.exited.add_done_callback(lambda _: popen.spawn.release())
        _close_pipes(popen)
        await asyncio.shield(child.exited)
        raise
    finally:
        _settle(popen, child)
        os.close(popen.report)
    popen.spawn.release()
    if report is not None:
        _close_pipes(popen)
        await asyncio.shield(child.exited)
        raise popen.failure(report)
    return child


async def _report(loop: "EventLoop", popen: Popen) -> Report | None:
    """Wait until a child's program runs; return the report of one that cannot."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return popen.heard()
        await loop.submit(Ready(popen.report, select.POLLIN))


def _settle(popen: Popen, child: Child) -> None:
    """Wait until a child needs no descriptor of this process, and kill it if that takes long.

    The wait is needed only if the loop was closed or an exception ended the start.
    """
    if popen.spawn.holds and not child.exited.done():
        waiting = select.poll()
        waiting.register(popen.report, select.POLLIN)
        waiting.register(popen.pidfd, select.POLLIN)
        if not waiting.poll(_SETTLING_MAX_MS):
            child.send_signal(signal.SIGKILL)
    popen.spawn.close_duplicates()


async def _start_elsewhere(loop: "EventLoop", make: Callable[[], "subprocess.Popen[bytes]"]) -> Child:
    """Make the child by a foreign Popen, in a thread, since that waits for exec."""
    making = loop.run_in_executor(None, _make_with_pidfd, make)
    try:
        await until_done(making)
    except asyncio.CancelledError:
        making.add_done_callback(partial(_end_unwanted, loop))
        raise
    return Child(loop, *making.result())


def _make_with_pidfd(make: Callable[[], "subprocess.Popen[bytes]"]) -> "tuple[subprocess.Popen[bytes], int]":
    popen = make()
    try:
        return popen, open_end(popen.pid)
    except OSError:
        _close_pipes(popen)
        popen.kill()
        popen.wait()
        raise


def _end_unwanted(loop: "EventLoop", making: "asyncio.Future[tuple[subprocess.Popen[bytes], int]]") -> None:
    if not making.cancelled() and making.exception() is None:
        popen, pidfd = making.result()
        _close_pipes(popen)
        Child(loop, popen, pidfd).send_signal(signal.SIGKILL)


def _close_pipes(popen: "subprocess.Popen[bytes]") -> None:
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()
