"""Refuse io_uring to this process with a seccomp filter, as containers and sandboxes do.  See seccomp(2).

The filter stays for the life of the process and is inherited, so this is for children of a test.
"""

import ctypes
import errno
import os
import struct
from typing import Any

SETUP, ENTER, REGISTER = 425, 426, 427
EVENTFD, WAITID, WAIT4, SOCKET = {"x86_64": (290, 247, 61, 41), "aarch64": (19, 95, 260, 198)}.get(
    os.uname().machine, (0, 0, 0, 0)
)
ACCEPT4, EPOLL_CTL = {"x86_64": (288, 233), "aarch64": (242, 21)}.get(os.uname().machine, (0, 0))
EPOLL_PWAIT2 = 441

_PIDFD_OPEN, _PIDFD_SEND_SIGNAL, _CLONE_PIDFD = 434, 424, 0x1000
_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine, 0)

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_RET_ALLOW, _RET_ERRNO, _RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_ARGUMENTS = 0, 4, 16
_ENTER_NO_IOWAIT = 1 << 7
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def refuse(error: int, *numbers: int) -> None:
    """Answer system calls with an errno, by default io_uring_setup alone."""
    _install(_RET_ERRNO | error, numbers or (SETUP,))


def kill(*numbers: int) -> None:
    """Kill the process if it makes one of these system calls, by default any of io_uring."""
    _install(_RET_KILL_PROCESS, numbers or (SETUP, ENTER, REGISTER))


def refuse_register(error: int, *opcodes: int) -> None:
    """Answer io_uring_register(2) with an errno for some of its opcodes only."""
    _install_program(_register_program(_RET_ERRNO | error, opcodes))


def kill_register(*opcodes: int) -> None:
    """Kill the process if it calls io_uring_register(2) with one of these opcodes."""
    _install_program(_register_program(_RET_KILL_PROCESS, opcodes))


def kill_waits_for_io() -> None:
    """Kill the process if it waits in io_uring_enter(2) without IORING_ENTER_NO_IOWAIT."""
    _install_program(
        [
            *_unless_known(6),
            (_JUMP_IF_EQUAL, 0, 5, ENTER),
            # min_complete, then the flags.
            (_LOAD_WORD, 0, 0, _OFFSET_ARGUMENTS + 2 * 8),
            (_JUMP_IF_EQUAL, 3, 0, 0),
            (_LOAD_WORD, 0, 0, _OFFSET_ARGUMENTS + 3 * 8),
            (_JUMP_IF_BITS, 1, 0, _ENTER_NO_IOWAIT),
            (_RETURN, 0, 0, _RET_KILL_PROCESS),
            (_RETURN, 0, 0, _RET_ALLOW),
        ]
    )


def refuse_pidfds(error: int) -> None:
    """Answer pidfd_open(2), pidfd_send_signal(2), and clone(2) with CLONE_PIDFD, with an errno."""
    refuse(error, _PIDFD_OPEN, _PIDFD_SEND_SIGNAL)
    _install_program(
        [
            *_unless_known(4),
            (_JUMP_IF_EQUAL, 0, 3, _CLONE),
            (_LOAD_WORD, 0, 0, _OFFSET_ARGUMENTS),
            (_JUMP_IF_BITS, 0, 1, _CLONE_PIDFD),
            (_RETURN, 0, 0, _RET_ERRNO | error),
            (_RETURN, 0, 0, _RET_ALLOW),
        ]
    )


def obey(profile: dict[str, Any]) -> None:
    """Answer io_uring's system calls, and eventfd2, as a container's filter made of this profile does."""
    numbers = {"io_uring_setup": SETUP, "io_uring_enter": ENTER, "io_uring_register": REGISTER, "eventfd2": EVENTFD}
    for name, number in numbers.items():
        rules = [rule for rule in profile["syscalls"] if name in rule["names"] and not rule.get("includes")]
        rule = rules[0] if rules else {"action": profile["defaultAction"], "errnoRet": profile.get("defaultErrnoRet")}
        if rule["action"] == "SCMP_ACT_ERRNO":
            refuse(rule.get("errnoRet") or errno.EPERM, number)
        else:
            assert rule["action"] == "SCMP_ACT_ALLOW", rule


def _install(action: int, numbers: tuple[int, ...]) -> None:
    _install_program(_program(action, numbers))


def _install_program(lines: list[tuple[int, int, int, int]]) -> None:
    program = b"".join(struct.pack("=HBBI", *line) for line in lines)
    memory = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments)):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


def _unless_known(skipped: int) -> list[tuple[int, int, int, int]]:
    """Load the number of the system call; of another architecture go on behind `skipped` further lines."""
    return [
        (_LOAD_WORD, 0, 0, _OFFSET_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, skipped + 1, _ARCHITECTURES[os.uname().machine]),
        (_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
    ]


def _choices(action: int, values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """One of the values is loaded: the action; else: allow."""
    return [
        *((_JUMP_IF_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, action),
    ]


def _program(action: int, numbers: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """BPF: of another architecture: allow; one of the numbers: the action; else: allow."""
    return [*_unless_known(len(numbers)), *_choices(action, numbers)]


def _register_program(action: int, opcodes: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """BPF: io_uring_register with one of the opcodes: the action; else: allow."""
    return [
        *_unless_known(len(opcodes) + 2),
        (_JUMP_IF_EQUAL, 0, len(opcodes) + 1, REGISTER),
        (_LOAD_WORD, 0, 0, _OFFSET_ARGUMENTS + 1 * 8),
        *_choices(action, opcodes),
    ]
