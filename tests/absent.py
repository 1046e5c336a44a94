"""Parts of io_uring that the backend on epoll(7) does not have.

A test that `needs` one of them is skipped on that backend, and on no other account.
"""

#: By the names of `tests.kernel.needs`.
ABSENT_OPERATIONS = [
    "READ_FIXED",
    "WRITE_FIXED",
    "FILES_UPDATE",
    "PROVIDE_BUFFERS",
    "REMOVE_BUFFERS",
    "MSG_RING",
    "SEND_ZC",
    "SENDMSG_ZC",
    "FUTEX_WAIT",
    "FUTEX_WAKE",
    "FUTEX_WAITV",
    "FIXED_FD_INSTALL",
    "RECV_ZC",
    "READV_FIXED",
    "WRITEV_FIXED",
]
#: "io_uring" is the kernel's ring itself, as in a test of its refusal, or of a ring by hand that chooses no backend.
ABSENT_PARTS = [
    "io_uring",
    "registered buffers",
    "registered files",
    "tags of files",
    "commands of devices",
    "polled devices",
    "a submitting thread",
    "shared workers",
    "a registered ring",
    "worker limits",
    "personalities",
    "restrictions",
    "busy polling",
    "clocks",
    "resizing",
    "messages without a ring",
]
