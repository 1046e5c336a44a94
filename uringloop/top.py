"""`python -m uringloop top PID`: the work of a live process's loops, refreshed, for people or as JSON.

A loop that shares its statistics holds a memfd open (see meter.pyx), which this module finds and reads in
/proc/PID/fd.  So the process need not answer, and a loop that hangs is seen too.  The kernel lets the same user in, and
root; also from outside of the process's container, by the PID that it has there.  A forked child inherits the memfd,
and is told from the owner by the PID in it.
"""

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .measuring import STATISTICS_VARIABLE
from .meter import BOUNDS_NS, PAGE_NAME, PAGE_SIZE_BYTES, read_page
from .ring.statistics import COUNTERS

_LINK = f"/memfd:{PAGE_NAME} "
_TRIES = 100
_SLOWEST_SHOWN = 10
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _TO_LINE_END, _TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


class NothingToSeeError(Exception):
    """The process has ended, may not be looked at, or shares no statistics."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("pid", type=int, help=f"the process; it shares statistics if {STATISTICS_VARIABLE}=1 is set")
    parser.add_argument("--interval", type=_positive, default=1, metavar="SECONDS", help="from one look to the next")
    parser.add_argument("--once", action="store_true", help="look for one interval, print, and end")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each interval")


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no interval")
    return seconds


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    try:
        if options.once or options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _print_looks(options)
        else:
            _show_looks(options)
    except NothingToSeeError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        # The flush at the exit would break the pipe again.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


# Reading


def pages_of(pid: int) -> list[dict[str, Any]]:
    """Return the numbers of each loop of a process that shares them, see `meter.read_page`, in the order of age.

    Raises:
        NothingToSeeError: there is none.
    """
    folder = Path(f"/proc/{pid}/fd")
    try:
        own_pid = _innermost_pid(pid)
        pages = [page for page in _read_all(folder) if page["pid"] == own_pid]
    except PermissionError:
        raise NothingToSeeError(f"process {pid} is another user's: ask as that user, or as root") from None
    except (FileNotFoundError, ProcessLookupError):
        raise NothingToSeeError(f"there is no process {pid}") from None
    if not pages:
        raise NothingToSeeError(
            f"process {pid} shares no statistics of a loop: start it with {STATISTICS_VARIABLE}=1, "
            "or call loop.share_statistics() in it"
        )
    return sorted(pages, key=lambda page: page["since_ns"])


def _innermost_pid(pid: int) -> int:
    """Return the PID that the process has for itself."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def _read_all(folder: Path) -> Iterator[dict[str, Any]]:
    for path in list(folder.iterdir()):
        # It may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(path).startswith(_LINK):
                yield _read(path)


def _read(path: Path) -> dict[str, Any]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        for _ in range(_TRIES):
            content = os.pread(fd, PAGE_SIZE_BYTES + 1, 0)
            page = read_page(content)
            # The sequence number stands at its front: the same after the copy, nothing has changed within.
            if page is not None and os.pread(fd, 24, 0) == content[:24]:
                return page
    except ValueError as error:
        raise NothingToSeeError(f"{path}: {error}") from None
    finally:
        os.close(fd)
    raise NothingToSeeError(f"{path} changes all the time")


def look(before: list[dict[str, Any]], after: list[dict[str, Any]], interval_ns: int) -> list[dict[str, Any]]:
    """Return what each loop did in an interval: rates a second, ratios, percentiles and numbers of its end."""
    known = {page["since_ns"]: page for page in before}
    return [_compare(known.get(page["since_ns"]), page, interval_ns) for page in after]


def _compare(before: dict[str, Any] | None, after: dict[str, Any], interval_ns: int) -> dict[str, Any]:
    counters = dict(zip(COUNTERS, after["ring"], strict=False))
    earlier = dict(zip(COUNTERS, before["ring"] if before else [0] * len(COUNTERS), strict=False))
    now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if before is None:
        # A new loop, or one that has begun to measure again.
        interval_ns = max(now_ns - after["since_ns"], 1)

    def rate(name: str) -> float:
        then, now = (earlier, counters) if name in counters else (before or dict.fromkeys(after, 0), after)
        per_s: float = (now[name] - then[name]) * 1e9 / interval_ns
        return round(per_s, 3)

    tick_ns = now_ns - after["running_since_ns"] if after["running_since_ns"] and not after["asleep"] else 0
    busy_ns = after["busy_ns"] - (before["busy_ns"] if before else 0)
    asleep_ns = after["asleep_ns"] - (before["asleep_ns"] if before else 0)
    if busy_ns + asleep_ns == 0 and tick_ns:
        busy_ns = 1  # one tick takes longer than the interval
    return {
        "thread": after["thread"],
        "backend": after["backend"],
        "age_ns": now_ns - after["since_ns"],
        "busy_ratio": round(busy_ns / (busy_ns + asleep_ns), 4) if busy_ns + asleep_ns else 0.0,
        "current_tick_ns": max(tick_ns, 0),
        "ticks_per_s": rate("ticks"),
        "callbacks_per_s": rate("callbacks"),
        "completions_per_s": rate("completions"),
        "received_bytes_per_s": rate("bytes_received"),
        "sent_bytes_per_s": rate("bytes_sent"),
        "lag": _percentiles(before["lag"] if before else None, after["lag"]),
        "tick_lengths": _percentiles(before["tick_lengths"] if before else None, after["tick_lengths"]),
        "ready": after["ready"],
        "connections": counters["streams"],
        "datagram_sockets": counters["datagrams"],
        "in_flight": counters["in_flight"],
        "buffers": counters["buffers"],
        "buffers_lent": counters["buffers_lent"],
        "slow_ns": after["slow_ns"],
        "slowest": after["slowest"],
        "counters": counters,
    }


def _percentiles(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, int | None]:
    """Return upper bounds of the median and of the 99th percentile, None if nothing was counted."""
    counts = after["counts"]
    if before is not None:
        counts = [now - then for now, then in zip(counts, before["counts"], strict=True)]
    return {
        "p50_ns": _percentile(counts, 0.5, after["longest_ns"]),
        "p99_ns": _percentile(counts, 0.99, after["longest_ns"]),
        "longest_ns": after["longest_ns"],
    }


def _percentile(counts: list[int], share: float, longest_ns: int) -> int | None:
    left = sum(counts) * share
    if left == 0:
        return None
    for count, bound_ns in zip(counts, (*BOUNDS_NS, longest_ns), strict=True):
        left -= count
        if left <= 0:
            return min(bound_ns, longest_ns)
    return longest_ns


# Showing


def _looks(options: argparse.Namespace, wait: Callable[[float], bool]) -> Iterator[list[dict[str, Any]]]:
    """Yield a look for each interval, until `wait` returns False."""
    before, then_ns = pages_of(options.pid), time.monotonic_ns()
    while wait(options.interval):
        after, now_ns = pages_of(options.pid), time.monotonic_ns()
        yield look(before, after, now_ns - then_ns)
        before, then_ns = after, now_ns


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def _print_looks(options: argparse.Namespace) -> None:
    seen = False
    try:
        for loops in _looks(options, _sleep):
            seen = True
            if options.json:
                print(json.dumps({"pid": options.pid, "time_s": time.time(), "loops": loops}), flush=True)
            else:
                print("\n".join(_lines(options.pid, loops)), end="\n" if options.once else "\n\n", flush=True)
            if options.once:
                return
    except NothingToSeeError:
        # The process has ended: so has this.
        if not seen:
            raise


def _show_looks(options: argparse.Namespace) -> None:
    """Fill the terminal until q or Ctrl-C."""
    lines = [f"uringloop top {options.pid}: looking ..."]

    def draw() -> None:
        width, height = shutil.get_terminal_size()
        shown = [_fit(line, width) + _TO_LINE_END for line in lines[: height - 1]]
        sys.stdout.write(_HOME + "\r\n".join(shown) + _TO_SCREEN_END)
        sys.stdout.flush()

    pages_of(options.pid)
    try:
        with _terminal() as wait:
            draw()
            for loops in _looks(options, lambda seconds: wait(seconds, draw)):
                lines[:] = _lines(options.pid, loops)
                draw()
    except NothingToSeeError as error:
        print(error)  # the process has ended


def _fit(line: str, width: int) -> str:
    """Return a line cut to the width; capitals at its front make it a bold head."""
    bold = line[:1].isupper() and line[:1] != ""
    return f"{_BOLD}{line[:width]}{_PLAIN}" if bold else line[:width]


@contextlib.contextmanager
def _terminal() -> Iterator[Callable[[float, Callable[[], None]], bool]]:
    """Take the terminal; yield a function that waits, draws again after a resize, and returns False after a q."""
    stdin = sys.stdin.fileno()
    attributes = termios.tcgetattr(stdin)
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGTERM)}

    def wait(seconds: float, draw: Callable[[], None]) -> bool:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            ready, _, _ = select.select([stdin, woken], [], [], left_s)
            if stdin in ready:
                keys = os.read(stdin, 64)
                if not keys or b"q" in keys.lower():
                    return False
            if woken in ready:
                os.read(woken, 64)
                draw()
        return True

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGWINCH, lambda number, frame: None)
    signal.signal(signal.SIGTERM, end)
    wakeup = signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    try:
        tty.setcbreak(stdin)
        sys.stdout.write(_ENTER)
        yield wait
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(stdin, termios.TCSADRAIN, attributes)
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(woken)
        os.close(waking)


def _lines(pid: int, loops: list[dict[str, Any]]) -> list[str]:
    """Return the looks at all loops of a process as text."""
    lines = [f"uringloop top {pid}  {_command(pid)}  {time.strftime('%H:%M:%S')}"]
    for one in loops:
        lines += ["", *_loop_lines(one)]
    return lines


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    text = " ".join(word.decode(errors="replace") for word in words).strip()
    return _printable(text)[:60]


def _printable(text: str) -> str:
    """Return a text of another process without what would command the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _loop_lines(one: dict[str, Any]) -> list[str]:
    lag, ticks = one["lag"], one["tick_lengths"]
    state = f"  in one tick for {_time(one['current_tick_ns'])}" if one["current_tick_ns"] > 1_000_000_000 else ""
    lines = [
        f"LOOP on {one['backend']}, thread {one['thread']}, for {one['age_ns'] // 1_000_000_000:,} s{state}",
        f"  busy        {one['busy_ratio']:8.1%}   {_number(one['ticks_per_s'])} ticks/s"
        f"   {_number(one['callbacks_per_s'])} callbacks/s   {_number(one['completions_per_s'])} completions/s",
        f"  lag         half below {_time(lag['p50_ns'])}   99 % below {_time(lag['p99_ns'])}"
        f"   longest so far {_time(lag['longest_ns'])}",
        f"  ticks       half below {_time(ticks['p50_ns'])}   99 % below {_time(ticks['p99_ns'])}"
        f"   longest so far {_time(ticks['longest_ns'])}",
        f"  connections {one['connections']:8,}   {one['datagram_sockets']:,} datagram sockets"
        f"   {one['in_flight']:,} operations in flight   {one['ready']:,} callbacks ready",
        f"  buffers     {one['buffers']:8,}   {one['buffers_lent']:,} lent"
        f"   received {_bytes(one['received_bytes_per_s'])}/s   sent {_bytes(one['sent_bytes_per_s'])}/s",
    ]
    if one["slowest"]:
        lines.append(f"  {'LONGEST':>9} {'CALLS':>8} {'TOTAL':>9}  CALLBACKS OF {_time(one['slow_ns'])} AND LONGER")
        lines += [
            f"  {_time(slow['longest_ns']):>9} {slow['calls']:8,} {_time(slow['total_ns']):>9}"
            f"  {_printable(slow['name'])}"
            for slow in one["slowest"][:_SLOWEST_SHOWN]
        ]
    return lines


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def _time(duration_ns: int | None) -> str:
    if duration_ns is None:
        return "-"
    for unit, factor in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1000)):
        if duration_ns >= factor:
            number = duration_ns / factor
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
    return f"{duration_ns} ns"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.3g} {unit}"
