"""Refuse io_uring to this process with a seccomp filter, as containers and sandboxes do.  See seccomp(2).

The filter stays for the life of the process and is inherited, so this is for children of a test.
"""

import ctypes
import os
import struct

SETUP, ENTER, REGISTER = 425, 426, 427

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_RET_ALLOW, _RET_ERRNO, _RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def refuse(error: int, *numbers: int) -> None:
    """Answer system calls with an errno, by default io_uring_setup alone."""
    _install(_RET_ERRNO | error, numbers or (SETUP,))


def kill(*numbers: int) -> None:
    """Kill the process if it makes one of these system calls, by default any of io_uring."""
    _install(_RET_KILL_PROCESS, numbers or (SETUP, ENTER, REGISTER))


def _install(action: int, numbers: tuple[int, ...]) -> None:
    program = _program(action, numbers)
    memory = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments)):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


def _program(action: int, numbers: tuple[int, ...]) -> bytes:
    """BPF: of another architecture: allow; one of the numbers: the action; else: allow."""
    lines = [
        (_LOAD_WORD, 0, 0, _OFFSET_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, len(numbers) + 1, _ARCHITECTURES[os.uname().machine]),
        (_LOAD_WORD, 0, 0, _OFFSET_NUMBER),
        *((_JUMP_IF_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, action),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
