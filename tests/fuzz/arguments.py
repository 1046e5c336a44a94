"""Operations with random arguments: an exception that says what is wrong, or a result; never a crash."""

import inspect
import os
import random
import struct
from typing import Any

from tests.fuzz.backend import chosen
from uringloop import operations
from uringloop.operations import Operation
from uringloop.ring import Ring

#: What closes descriptors of ours, whose advice may poison pages, or waits for other processes; and base classes.
_LEFT_OUT = {
    "Close",
    "AdviseMemory",
    "WaitChild",
    "Operation",
    "Multishot",
    "FileOperation",
    "Descriptor",
    "Poll",
    "AcceptMany",
}
_CLASSES = sorted(
    (kind for name, kind in vars(operations).items() if isinstance(kind, type) and issubclass(kind, Operation)),
    key=lambda kind: kind.__name__,
)
#: No compiled operation takes more arguments.
_COMPILED_MAX = 4

#: What a wrong argument may raise.
_ERRORS = (
    struct.error,
    MemoryError,
    TypeError,
    ValueError,
    OverflowError,
    BufferError,
    OSError,
    AttributeError,
    IndexError,
    RuntimeError,
)


def _values(chance: random.Random) -> tuple[Any, ...]:
    return (
        0,
        1,
        -1,
        7,
        1 << 20,
        -(1 << 31),
        1 << 63,
        -(1 << 64),
        1 << 70,
        None,
        "",
        "name",
        "nul\0inside",
        b"bytes",
        b"",
        bytearray(chance.randrange(1, 100)),
        memoryview(bytearray(10))[::2],
        [],
        [bytearray(4), bytearray(8)],
        [b"a", "b", None],
        [1, -1, 1 << 40],
        1.5,
        print,
        operations.Nop(),
    )


def _argument_counts(kind: type) -> tuple[int, int]:
    """How many arguments a class needs and takes by position; a compiled class does not tell."""
    try:
        parameters = inspect.signature(kind).parameters.values()
    except ValueError:
        return 0, _COMPILED_MAX
    positional = sum(each.kind < each.VAR_POSITIONAL for each in parameters)
    required = sum(each.default is each.empty for each in parameters)
    return required, max(required, positional)


def run(chance: random.Random) -> None:
    """A ring, and operations that may or may not be made, staged and run."""
    with Ring(8, backend=chosen()) as ring:
        for _ in range(50):
            kind = chance.choice([kind for kind in _CLASSES if kind.__name__ not in _LEFT_OUT])
            least, most = _argument_counts(kind)
            arguments = [chance.choice(_values(chance)) for _ in range(chance.randint(least, most))]
            # No descriptor of ours, nor the terminal.
            if arguments and isinstance(arguments[0], int) and 0 <= arguments[0] < 8:
                arguments[0] = -1
            try:
                ring.prepare(kind(*arguments))
                ring.submit()
            except _ERRORS:
                continue
            while (completion := ring.peek_cqe()) is not None:
                if completion.operation is None:
                    continue
                try:
                    result = completion.result()
                except _ERRORS:
                    continue
                if isinstance(result, int) and result > 2 and kind.__name__ in ("Open", "OpenWithin", "MakeSocket"):
                    os.close(result)
