"""io_uring's numbers, by the kernel's names: opcodes, features, flags.

See io_uring_setup(2), io_uring_enter(2), io_uring_register(2).  A test compares those that the C core uses with its
own.
"""

import enum


class Opcode(enum.IntEnum):
    """IORING_OP_*: the request of an SQE."""

    NOP = 0
    READV = 1
    WRITEV = 2
    FSYNC = 3
    READ_FIXED = 4
    WRITE_FIXED = 5
    POLL_ADD = 6
    POLL_REMOVE = 7
    SYNC_FILE_RANGE = 8
    SENDMSG = 9
    RECVMSG = 10
    TIMEOUT = 11
    TIMEOUT_REMOVE = 12
    ACCEPT = 13
    ASYNC_CANCEL = 14
    LINK_TIMEOUT = 15
    CONNECT = 16
    FALLOCATE = 17
    OPENAT = 18
    CLOSE = 19
    FILES_UPDATE = 20
    STATX = 21
    READ = 22
    WRITE = 23
    FADVISE = 24
    MADVISE = 25
    SEND = 26
    RECV = 27
    OPENAT2 = 28
    EPOLL_CTL = 29
    SPLICE = 30
    PROVIDE_BUFFERS = 31
    REMOVE_BUFFERS = 32
    TEE = 33
    SHUTDOWN = 34
    RENAMEAT = 35
    UNLINKAT = 36
    MKDIRAT = 37
    SYMLINKAT = 38
    LINKAT = 39
    MSG_RING = 40
    FSETXATTR = 41
    SETXATTR = 42
    FGETXATTR = 43
    GETXATTR = 44
    SOCKET = 45
    URING_CMD = 46
    SEND_ZC = 47
    SENDMSG_ZC = 48
    READ_MULTISHOT = 49
    WAITID = 50
    FUTEX_WAIT = 51
    FUTEX_WAKE = 52
    FUTEX_WAITV = 53
    FIXED_FD_INSTALL = 54
    FTRUNCATE = 55
    BIND = 56
    LISTEN = 57
    RECV_ZC = 58
    EPOLL_WAIT = 59
    READV_FIXED = 60
    WRITEV_FIXED = 61
    PIPE = 62


class Setup(enum.IntFlag):
    """IORING_SETUP_*: the flags of a new ring."""

    IOPOLL = 1 << 0
    SQPOLL = 1 << 1
    SQ_AFF = 1 << 2
    CQSIZE = 1 << 3
    CLAMP = 1 << 4
    ATTACH_WQ = 1 << 5
    R_DISABLED = 1 << 6
    SUBMIT_ALL = 1 << 7
    COOP_TASKRUN = 1 << 8
    TASKRUN_FLAG = 1 << 9
    SQE128 = 1 << 10
    CQE32 = 1 << 11
    SINGLE_ISSUER = 1 << 12
    DEFER_TASKRUN = 1 << 13
    NO_MMAP = 1 << 14
    REGISTERED_FD_ONLY = 1 << 15
    NO_SQARRAY = 1 << 16
    HYBRID_IOPOLL = 1 << 17
    CQE_MIXED = 1 << 18


class Feature(enum.IntFlag):
    """IORING_FEAT_*: the kernel's features that io_uring_setup(2) reports."""

    SINGLE_MMAP = 1 << 0
    NODROP = 1 << 1
    SUBMIT_STABLE = 1 << 2
    RW_CUR_POS = 1 << 3
    CUR_PERSONALITY = 1 << 4
    FAST_POLL = 1 << 5
    POLL_32BITS = 1 << 6
    SQPOLL_NONFIXED = 1 << 7
    EXT_ARG = 1 << 8
    NATIVE_WORKERS = 1 << 9
    RSRC_TAGS = 1 << 10
    CQE_SKIP = 1 << 11
    LINKED_FILE = 1 << 12
    REG_REG_RING = 1 << 13
    RECVSEND_BUNDLE = 1 << 14
    MIN_TIMEOUT = 1 << 15
    RW_ATTR = 1 << 16
    NO_IOWAIT = 1 << 17


class SqeFlag(enum.IntFlag):
    """IOSQE_*: the flags of an SQE, for any opcode."""

    FIXED_FILE = 1 << 0
    IO_DRAIN = 1 << 1
    IO_LINK = 1 << 2
    IO_HARDLINK = 1 << 3
    ASYNC = 1 << 4
    BUFFER_SELECT = 1 << 5
    CQE_SKIP_SUCCESS = 1 << 6


class CqeFlag(enum.IntFlag):
    """IORING_CQE_F_*: the flags of a completion."""

    BUFFER = 1 << 0
    MORE = 1 << 1
    SOCK_NONEMPTY = 1 << 2
    NOTIF = 1 << 3
    BUF_MORE = 1 << 4


class Enter(enum.IntFlag):
    """IORING_ENTER_*: the flags of io_uring_enter(2)."""

    GETEVENTS = 1 << 0
    SQ_WAKEUP = 1 << 1
    SQ_WAIT = 1 << 2
    EXT_ARG = 1 << 3
    REGISTERED_RING = 1 << 4
    ABS_TIMER = 1 << 5
    EXT_ARG_REG = 1 << 6
    NO_IOWAIT = 1 << 7


class Register(enum.IntEnum):
    """IORING_REGISTER_*: the opcodes of io_uring_register(2).  IORING_UNREGISTER_* are in `Unregister`."""

    BUFFERS = 0
    FILES = 2
    EVENTFD = 4
    FILES_UPDATE = 6
    EVENTFD_ASYNC = 7
    PROBE = 8
    PERSONALITY = 9
    RESTRICTIONS = 11
    ENABLE_RINGS = 12
    FILES2 = 13
    FILES_UPDATE2 = 14
    BUFFERS2 = 15
    BUFFERS_UPDATE = 16
    IOWQ_AFF = 17
    IOWQ_MAX_WORKERS = 19
    RING_FDS = 20
    PBUF_RING = 22
    SYNC_CANCEL = 24
    FILE_ALLOC_RANGE = 25
    PBUF_STATUS = 26
    NAPI = 27
    CLOCK = 29
    CLONE_BUFFERS = 30
    SEND_MSG_RING = 31
    ZCRX_IFQ = 32
    RESIZE_RINGS = 33
    MEM_REGION = 34
    QUERY = 35


class Unregister(enum.IntEnum):
    """IORING_UNREGISTER_*: opcodes of io_uring_register(2), too."""

    BUFFERS = 1
    FILES = 3
    EVENTFD = 5
    PERSONALITY = 10
    IOWQ_AFF = 18
    RING_FDS = 21
    PBUF_RING = 23
    NAPI = 28


class Restriction(enum.IntEnum):
    """IORING_RESTRICTION_*: the kinds of restrictions of a ring."""

    REGISTER_OP = 0
    SQE_OP = 1
    SQE_FLAGS_ALLOWED = 2
    SQE_FLAGS_REQUIRED = 3


class CancelFlag(enum.IntFlag):
    """IORING_ASYNC_CANCEL_*: the criteria of a cancel."""

    ALL = 1 << 0
    FD = 1 << 1
    ANY = 1 << 2
    FD_FIXED = 1 << 3
    USERDATA = 1 << 4
    OP = 1 << 5


#: IORING_ACCEPT_MULTISHOT, in an SQE's `ioprio`.
ACCEPT_MULTISHOT = 1 << 0
#: IORING_POLL_ADD_MULTI, in an SQE's `length`.
POLL_ADD_MULTI = 1 << 0
OP_SUPPORTED = 1 << 0
RSRC_REGISTER_SPARSE = 1 << 0
#: IORING_REGISTER_FILES_SKIP: a place of the table of files that an update leaves unchanged.
FILES_SKIP = -2

#: MAX_RW_COUNT: the kernel moves no more in one call; a receive of more is EINVAL.
TRANSFER_MAX_BYTES = 0x7FFFF000
