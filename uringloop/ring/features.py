"""What this kernel offers, and what the loop makes of it.

Features are probed, never guessed from the kernel's version.  Multishot receive and accept are flags of operations,
which no probe reports: they are taken as present where an operation of the same release is (SEND_ZC of 6.0, SOCKET of
5.19), because refusing them at run time would cost a connection.  Whether pipes wait shows only when one is read: it is
taken as present, and EAGAIN is answered with a poll.  A restricted ring still reports an operation as supported.
"""

import dataclasses
import functools

from .abi import Feature, Opcode, Setup

#: Optional features by name: what may be masked off, with what each is for.
OPTIONAL = {
    "multishot_receive": "one armed receive serves a connection until it ends",
    "multishot_accept": "one armed accept serves a listening socket",
    "multishot_poll": "one armed poll reports every wakeup",
    "multishot_read": "one armed read serves a pipe until it ends",
    "waiting_pipes": "a read or write of a non-blocking pipe waits in the kernel, instead of failing with EAGAIN",
    "buffer_rings": "the kernel picks receive buffers from a shared group",
    "defer_taskrun": "completions are made when the loop asks for them, not by interrupting it",
}


@dataclasses.dataclass(frozen=True)
class Features:
    """One ring's abilities.

    Attributes:
        setup: the setup flags that the kernel accepted.
        kernel: its IORING_FEAT_* flags.
        opcodes: the operations that it reports as supported.
        enabled: the optional features (keys of `OPTIONAL`) that are there and not masked off.
    """

    setup: Setup
    kernel: Feature
    opcodes: frozenset[Opcode]
    enabled: frozenset[str]


@functools.cache
def derive(
    setup: int, kernel: int, opcodes: frozenset[Opcode], buffer_rings: bool, without: frozenset[str]
) -> Features:
    """Features from what a ring's setup and probe said, less those masked off."""
    present = {
        "multishot_receive": buffer_rings and Opcode.SEND_ZC in opcodes,
        "multishot_accept": Opcode.SOCKET in opcodes,
        "multishot_poll": bool(kernel & Feature.RSRC_TAGS),
        "multishot_read": buffer_rings and Opcode.READ_MULTISHOT in opcodes,
        "waiting_pipes": True,
        "buffer_rings": buffer_rings,
        "defer_taskrun": bool(setup & Setup.DEFER_TASKRUN),
    }
    enabled = frozenset(name for name, there in present.items() if there and name not in without)
    return Features(Setup(setup), Feature(kernel), opcodes, enabled)


def check_names(without: frozenset[str]) -> None:
    """Refuse a mask that names no optional feature.

    Raises:
        ValueError: a name is not in `OPTIONAL`.
    """
    unknown = without - OPTIONAL.keys()
    if unknown:
        raise ValueError(f"unknown features {sorted(unknown)}; there are {sorted(OPTIONAL)}")
