"""`Popen`: a `subprocess.Popen` that does not wait for its program to run.

The standard library checks the arguments, makes the pipes and closes their other ends.  A `Spawn` replaces the middle:
fork, exec, and the wait for exec.  `heard` reads the child's report of exec later.

A child with a preexec_fn is forked on this thread, as asyncio does.  The function then sees the thread and the state of
locks that it would see there.  Linux also does not mistake the end of a helping thread for the end of the parent
(PR_SET_PDEATHSIG).  `Popen` waits for the fork alone: the function may itself wait for this loop.  It may also use any
descriptor, so the child has copies of all until the function has returned.
"""

import os
import signal
import subprocess
import sys
import warnings
from typing import Any, NoReturn

from ..hooks import PrivatePopen
from .end import open_end
from .spawn import Plan, Report, Spawn, Stage

_SHELL = "/bin/sh"
_FIRST_FREE = 3


class Popen(PrivatePopen):
    """A `subprocess.Popen` that does not wait for exec; the attributes below serve the wait.

    Attributes:
        pidfd: the child's; the caller closes it.
        report: the reading end of the child's pipe; the caller closes it.
        spawn: the child's memory; the caller releases it.
    """

    pidfd = report = -1
    spawn: Spawn

    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: Any,
        shell: Any,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: Any,
        gid: int | None,
        gids: list[int] | None,
        uid: int | None,
        umask: int,
        start_new_session: Any,
        process_group: int,
    ) -> None:
        arguments = _arguments(args, shell, executable)
        if executable is None:
            executable = arguments[0]
        sys.audit("subprocess.Popen", executable, arguments, cwd, env)
        self._executable, self._directory = executable, cwd
        report, report_of_child = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            report_of_child = _above_standard(report_of_child)
            plan = Plan(
                arguments=[os.fsencode(argument) for argument in arguments],
                programs=_programs(executable, env),
                environment=None if env is None else _environment(env),
                directory=None if cwd is None else os.fsencode(cwd),
                kept=_checked(pass_fds),
                input=p2cread,
                output=c2pwrite,
                error=errwrite,
                report=report_of_child,
                close_others=bool(close_fds),
                restore_signals=bool(restore_signals),
                new_session=bool(start_new_session),
                process_group=process_group,
                umask=umask,
                uid=-1 if uid is None else uid,
                gid=-1 if gid is None else gid,
                groups=gids,
            )
            self._start(plan, preexec_fn)
        except BaseException:
            os.close(report)
            raise
        finally:
            # Only the child's copy stays: another fork must not keep the pipe open.
            os.close(report_of_child)
        self.report = report
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _start(self, plan: Plan, preexec_fn: Any) -> None:
        spawn = Spawn(plan)
        try:
            if preexec_fn is None:
                self.pid, self.pidfd = spawn.start()
                if self.pidfd < 0:
                    self.pidfd = _open_pidfd(self.pid)
            else:
                self.pid = _fork()
                if self.pid == 0:
                    _run_in_fork(spawn, preexec_fn)
                self.pidfd = _open_pidfd(self.pid)
        except BaseException:
            spawn.release()
            raise
        self.spawn = spawn

    def heard(self) -> Report | None:
        """Return why the program does not run, or None if it does.

        Raises:
            BlockingIOError: the child has not reported so far.
        """
        while True:
            report = Report.read(self.report)
            if report is None or report.stage is not Stage.CLOSED:
                return report
            self.spawn.close_duplicates()

    def failure(self, report: Report) -> BaseException:
        """Return the exception that subprocess raises for this report."""
        if report.stage is Stage.FUNCTION:
            return subprocess.SubprocessError("Exception occurred in preexec_fn.")
        message = os.strerror(report.error)
        if report.stage is Stage.PREPARING:
            return OSError(report.error, message)
        return OSError(report.error, message, self._directory if report.stage is Stage.DIRECTORY else self._executable)


def _fork() -> int:
    """Fork without the warning of threads, as subprocess does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _open_pidfd(pid: int) -> int:
    try:
        return open_end(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _run_in_fork(spawn: Spawn, preexec_fn: Any) -> NoReturn:
    try:
        spawn.prepare_here()
        try:
            preexec_fn()
        except BaseException:
            spawn.fail_here()
        spawn.run_here()
    finally:
        os._exit(255)


def _arguments(args: Any, shell: Any, executable: Any) -> list[Any]:
    if isinstance(args, os.PathLike) and shell:
        raise TypeError("path-like args is not allowed when shell is true")
    arguments = [args] if isinstance(args, str | bytes | os.PathLike) else list(args)
    return [executable or _SHELL, "-c", *arguments] if shell else arguments


def _programs(executable: Any, env: Any) -> list[bytes]:
    """Return the paths that os.execvpe would try for the program."""
    name = os.fsencode(executable)
    if os.path.dirname(name):
        return [name]
    return [os.path.join(os.fsencode(folder), name) for folder in os.get_exec_path(env)]


def _environment(env: Any) -> list[bytes]:
    pairs = [(os.fsencode(name), os.fsencode(value)) for name, value in env.items()]
    if any(b"=" in name for name, _ in pairs):
        raise ValueError("illegal environment variable name")
    return [name + b"=" + value for name, value in pairs]


def _checked(pass_fds: Any) -> list[int]:
    fds = [int(fd) for fd in pass_fds]
    if any(fd < 0 for fd in fds):
        raise ValueError("bad value(s) in fds_to_keep")
    return fds


def _above_standard(fd: int) -> int:
    """Return the descriptor, or a copy above the first three; close those that are not returned."""
    low = []
    while fd < _FIRST_FREE:
        low.append(fd)
        fd = os.dup(fd)
    for number in low:
        os.close(number)
    return fd
