"""Child processes: started without stalling the loop, their end noticed without a thread or a signal.

Starting has two parts: `Popen` makes the child, at once; that its program runs, or cannot, is heard through a pipe that
is polled on the ring.  A pidfd (pidfd_open(2)) polled on the ring tells of the child's end, from before it can have
ended, so whatever becomes of who started it, there is no zombie.  It also names the child for signals: a process id may
be another process's already when someone else has waited for ours.

On 3.11 to 3.13 asyncio would ask its policy for a child watcher; none is used.
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
from .popen import Popen
from .spawn import Report

if TYPE_CHECKING:
    from ..loop import EventLoop

_log = logging.getLogger("asyncio")

#: Of a child whose exit status somebody else has taken.
_UNKNOWN_RETURNCODE = 255
#: A debugger hears of the end before the parent does.
_TRACED_RETRY_S = 0.01
#: A child may be stopped before it has left this process's table of descriptors, by a debugger say.
_SETTLING_MAX_MS = 100


class Child:
    """One child process until its end.

    Args:
        loop: whose ring watches it.
        popen: the child, with nobody else to wait for it.
        pidfd: of the child; owned from now on.

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
        """Wait for the child, which has ended; None if a debugger still has it.

        A filter may refuse waitid(2).  Until the child is waited for, its process id names no other process.

        Raises:
            OSError: the child was waited for elsewhere, or both ways to wait are refused.
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
        """Return the code that the Popen object knows, if it has waited for the child; else that it is unknown."""
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
            PermissionError: the child has become somebody else's (a setuid program).
            OSError: no such signal.
        """
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)

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
            # Their own closing needs the loop; they are closed when they are dropped.
            self._pipes.clear()
        super().close()

    def send_signal(self, signal: int) -> None:
        """Send a signal; nothing happens if the child has ended.

        Raises:
            ProcessLookupError: the child has ended and all its pipes are closed.
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
    """Start a child process; its transport when the pipes are connected.

    Raises:
        OSError: the program cannot be run; subprocess.Popen's other exceptions for bad arguments.
        asyncio.CancelledError: the child was killed and has ended, unless cancelled once more.
    """
    options |= {"shell": shell, "stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": bufsize}
    if popen_is_known():
        child = await _start(loop, partial(Popen, args, **options))
    else:
        if options.get("env") is not None:
            # The thread may come to it when the caller has changed it.
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
    # Killed before it has reported.
    child.exited.add_done_callback(lambda _: popen.spawn.let_go())
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
    """Wait until a child's program runs, or return why it does not."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return popen.heard()
        await loop.submit(Ready(popen.report, select.POLLIN))


def _settle(popen: Popen, child: Child) -> None:
    """Wait until a child needs no descriptor of this process, and kill it if that takes long.

    There is something to wait for only where the loop was closed, or an exception ended the start.
    """
    if popen.spawn.holds and not child.exited.done():
        waiting = select.poll()
        waiting.register(popen.report, select.POLLIN)
        waiting.register(popen.pidfd, select.POLLIN)
        if not waiting.poll(_SETTLING_MAX_MS):
            child.send_signal(signal.SIGKILL)
    popen.spawn.let_go()


async def _start_elsewhere(loop: "EventLoop", make: Callable[[], "subprocess.Popen[bytes]"]) -> Child:
    """Make the child by a Popen that is not the standard one: in a thread, since it waits for exec."""
    making = loop.run_in_executor(None, _make_with_pidfd, make)
    try:
        return Child(loop, *await asyncio.shield(making))
    except asyncio.CancelledError:
        making.add_done_callback(partial(_end_unwanted, loop))
        raise


def _make_with_pidfd(make: Callable[[], "subprocess.Popen[bytes]"]) -> "tuple[subprocess.Popen[bytes], int]":
    popen = make()
    try:
        return popen, os.pidfd_open(popen.pid)
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
