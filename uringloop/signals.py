"""Signals write to the loop's self-pipe, and the earlier wakeup descriptor gets the bytes too.

Python writes the number of each signal to one descriptor of the process, `signal.set_wakeup_fd`.  A running loop needs
it, so that a signal just before a sleep ends that sleep.  Another library may have set its own before, as Twisted does
for the ends of children.  That descriptor gets the numbers that the loop reads, and comes back after the run.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVarTuple

from .hooks import PrivateLoop
from .operations.control import Poll
from .ring.dispatcher import Dispatcher

_Ts = TypeVarTuple("_Ts")


def in_main_thread() -> bool:
    """Return whether this is the main thread, the only one that may set the wakeup descriptor."""
    return threading.current_thread() is threading.main_thread()


class _Displaced(NamedTuple):
    """A descriptor with the identity of its file: after its owner's close the number may be another file's."""

    fd: int
    device: int
    inode: int

    @classmethod
    def of(cls, fd: int) -> "_Displaced | None":
        try:
            status = os.fstat(fd)
        except OSError:
            return None
        return cls(fd, status.st_dev, status.st_ino)


class SignalWakeup:
    """The wakeup descriptor of one loop.  Only the main thread may use it.

    Args:
        fd: the end of the self-pipe that wakes the loop.

    Attributes:
        taken: whether signals write to it.
    """

    def __init__(self, fd: int) -> None:
        self.taken = False
        self._fd = fd
        self._displaced: _Displaced | None = None

    def take(self) -> None:
        """Let signals write to the loop's descriptor, and remember the one that did so before."""
        previous = signal.set_wakeup_fd(self._fd, warn_on_full_buffer=False)
        self.taken = True
        if previous != self._fd:
            self._displaced = None if previous == -1 else _Displaced.of(previous)

    def take_again(self) -> None:
        """Do the same after asyncio took the loop's descriptor away."""
        signal.set_wakeup_fd(self._fd, warn_on_full_buffer=False)

    def give_back(self) -> None:
        """Put the earlier descriptor back, unless another one was set or removed since."""
        current = signal.set_wakeup_fd(-1)
        if current == self._fd:
            self.restore()
            return
        self.taken = False
        self._displaced = None
        if current != -1:
            signal.set_wakeup_fd(current)

    def restore(self) -> None:
        """Put the earlier descriptor back in any case."""
        displaced, self._displaced = self._displaced, None
        self.taken = False
        signal.set_wakeup_fd(-1)
        if displaced is not None and displaced == _Displaced.of(displaced.fd):
            with contextlib.suppress(OSError, ValueError):  # it blocks by now
                signal.set_wakeup_fd(displaced.fd)

    @property
    def passes_on(self) -> bool:
        """Return whether an earlier descriptor must get the bytes too."""
        return self._displaced is not None

    def pass_on(self, data: bytes) -> None:
        """Write the numbers of signals to the earlier descriptor, as far as it has room.

        Args:
            data: the bytes that the loop read from its self-pipe; zeros are no signals.

        Raises:
            OSError: the descriptor cannot be written to.
        """
        numbers = data.replace(b"\0", b"")
        if not numbers or self._displaced is None:
            return
        if self.taken and in_main_thread():
            # Its owner may have removed it since, and the loop's own with it: this puts that back.
            earlier = self._displaced
            self.take()
            if self._displaced != earlier:
                return
        if self._displaced == _Displaced.of(self._displaced.fd):
            with contextlib.suppress(BlockingIOError):  # Python drops them too
                os.write(self._displaced.fd, numbers)
        else:
            self._displaced = None


class SignalHandling(PrivateLoop):
    """The loop's part in signals: it takes the wakeup descriptor, shares it, and reads what comes."""

    _dispatcher: Dispatcher
    _owner_thread: int | None
    _signals: SignalWakeup
    _wakeup: Poll | None

    def _watch_self_pipe(self) -> None:
        """Poll the self-pipe from now on."""
        raise NotImplementedError

    def _take_signals(self) -> None:
        """Have every signal write to the self-pipe, so that one that comes just before the loop sleeps wakes it too.

        The main thread has to call `_give_signals_back`, also if this raises: it may make the ring.
        """
        if in_main_thread():
            self._signals.take()
        if self._signals.passes_on or self._signal_handlers:
            self._watch_self_pipe()  # a loop that never sleeps reads them there too
        self._choose_hurry()

    def _choose_hurry(self) -> None:
        """Have each tick look for signals, as asyncio's does, if this loop has to handle them or to pass them on.

        Otherwise they only have to end its sleeps.
        """
        handles = self._signals.passes_on or self._signal_handlers
        self._dispatcher.unhurried = 0 if handles or self._wakeup is None else 1

    def _give_signals_back(self) -> None:
        if self._signals.passes_on:
            self._read_from_self()
        # For signal handlers it stays, as asyncio's does.
        if not self._signal_handlers:
            self._signals.give_back()

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """See `asyncio.loop.add_signal_handler`; a wakeup descriptor that was set before gets the signals too."""
        takes = not self.is_closed() and in_main_thread()
        if takes:
            self._signals.take()
        try:
            super().add_signal_handler(sig, callback, *args)
        except BaseException:
            if takes:
                self._settle_signals()
            raise
        if self._owner_thread == threading.get_native_id():
            self._watch_self_pipe()
        elif self.is_running():
            self.call_soon_threadsafe(self._watch_self_pipe)

    def remove_signal_handler(self, sig: int) -> bool:
        """See `asyncio.loop.remove_signal_handler`; every other signal goes on waking this loop."""
        removed = super().remove_signal_handler(sig)
        if removed:
            self._settle_signals()
        return removed

    def _settle_signals(self) -> None:
        """Put the wakeup descriptor right: with the last handler asyncio has taken it away."""
        if self._signal_handlers or not in_main_thread():
            return
        if self.is_running() and self._owner_thread == threading.get_native_id():
            self._signals.take_again()
            self._choose_hurry()
        else:
            self._signals.restore()

    def _process_self_data(self, data: bytes) -> None:
        """Handle the signals that the self-pipe tells of."""
        try:
            self._signals.pass_on(data)
        except OSError as error:
            self.call_exception_handler({"message": "Exception in the signal wakeup descriptor", "exception": error})
        super()._process_self_data(data)
