"""The offer of this kernel, and the loop's use of it.

Features are probed, never guessed from the kernel's version.  No probe reports multishot receive and accept, which are
flags of operations.  They count as present with an operation of the same release: SEND_ZC of 6.0, SOCKET of 5.19.  A
refusal at run time would cost a connection.  Whether pipes wait shows only at a read.  It counts as present,
and a poll answers EAGAIN.  A restricted ring still reports an operation as supported.
"""

import dataclasses
import functools

from .abi import Feature, Opcode, Setup

#: The optional features, which `without` may name, each with its purpose.
OPTIONAL = {
    "multishot_receive": "one armed receive serves a connection until it ends",
    "multishot_accept": "one armed accept serves a listening socket",
    "multishot_poll": "one armed poll reports every wakeup",
    "multishot_read": "one armed read serves a pipe until it ends",
    "waiting_pipes": "a read or write of a non-blocking pipe waits in the kernel, instead of failing with EAGAIN",
    "buffer_rings": "the kernel picks receive buffers from a shared group",
    "epoll_wait": "one operation waits for the descriptors of add_reader and brings their events, instead of a poll",
    "defer_taskrun": "completions are made when the loop asks for them, not by interrupting it",
}


@dataclasses.dataclass(frozen=True)
class Features:
    """One ring's abilities.

    Attributes:
        backend: the carrier of its operations.
        setup: the setup flags that the backend accepted.
        kernel: the backend's IORING_FEAT_* flags.
        opcodes: the operations that the backend reports as supported.
        enabled: the optional features (keys of `OPTIONAL`) that are present and allowed.
    """

    backend: str
    setup: Setup
    kernel: Feature
    opcodes: frozenset[Opcode]
    enabled: frozenset[str]

    def absence(self, opcode: int) -> str | None:
        """Return the text that the backend lacks an operation, or None if it has it."""
        if not self.opcodes or opcode in self.opcodes:
            return None
        where = "the backend epoll" if self.backend == "epoll" else "this kernel's io_uring"
        name = Opcode(opcode).name if opcode in set(Opcode) else opcode
        return f"{where} has no operation {name}"


@functools.cache
def derive(
    setup: int,
    kernel: int,
    opcodes: frozenset[Opcode],
    buffer_rings: bool,
    without: frozenset[str],
    backend: str = "io_uring",
) -> Features:
    """Return the features that a ring's setup and probe tell, less those in `without`."""
    own = backend == "epoll"
    present = {
        "multishot_receive": buffer_rings and (own or Opcode.SEND_ZC in opcodes),
        "multishot_accept": Opcode.SOCKET in opcodes,
        "multishot_poll": own or bool(kernel & Feature.RSRC_TAGS),
        "multishot_read": buffer_rings and Opcode.READ_MULTISHOT in opcodes,
        "waiting_pipes": True,
        "buffer_rings": buffer_rings,
        "epoll_wait": Opcode.EPOLL_WAIT in opcodes,
        "defer_taskrun": bool(setup & Setup.DEFER_TASKRUN),
    }
    enabled = frozenset(name for name, there in present.items() if there and name not in without)
    return Features(backend, Setup(setup), Feature(kernel), opcodes, enabled)


def check_names(without: frozenset[str]) -> None:
    """Refuse a name of no optional feature.

    Raises:
        ValueError: a name is not in `OPTIONAL`.
    """
    unknown = without - OPTIONAL.keys()
    if unknown:
        raise ValueError(f"unknown features {sorted(unknown)}; there are {sorted(OPTIONAL)}")
