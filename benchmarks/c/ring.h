/*
 * The part of io_uring's interface that these programs use, and one ring.
 *
 * It is declared here because the headers of distributions are years behind the kernels they run on.  Linux 6.1.
 */
#pragma once
#include "common.h"
#include <sys/syscall.h>

enum { SYS_SETUP = 425, SYS_ENTER = 426, SYS_REGISTER = 427 };
enum { OP_ACCEPT = 13, OP_CONNECT = 16, OP_SEND = 26, OP_RECV = 27 };
enum { SQE_FIXED_FILE = 1 << 0, SQE_LINK = 1 << 2, SQE_BUFFER_SELECT = 1 << 5, SQE_CQE_SKIP_SUCCESS = 1 << 6 };
enum { SETUP_CQSIZE = 1 << 3, SETUP_SUBMIT_ALL = 1 << 7 };
enum { SETUP_SINGLE_ISSUER = 1 << 12, SETUP_DEFER_TASKRUN = 1 << 13 };
enum { ENTER_GETEVENTS = 1 << 0, ENTER_EXT_ARG = 1 << 3, ENTER_REGISTERED_RING = 1 << 4 };
enum { CQE_BUFFER = 1 << 0, CQE_MORE = 1 << 1, CQE_BUFFER_SHIFT = 16 };
enum { RECV_MULTISHOT = 1 << 1, ACCEPT_MULTISHOT = 1 << 0 };
enum { REGISTER_FILES = 2, REGISTER_RING_FDS = 20, REGISTER_BUFFER_RING = 22 };
#define OFFSET_SQ_RING 0
#define OFFSET_SQES 0x10000000

struct sqe {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off, addr;
    uint32_t len, msg_flags;
    uint64_t user_data;
    uint16_t buffer_group, personality;
    uint32_t file_index;
    uint64_t unused[2];
};

struct cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct ring_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
    struct {
        uint32_t head, tail, mask, entries, flags, dropped, array, reserved;
        uint64_t user_addr;
    } sq;
    struct {
        uint32_t head, tail, mask, entries, overflow, cqes, flags, reserved;
        uint64_t user_addr;
    } cq;
};

struct buffer {
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    uint16_t tail; /* of the whole ring, in the first entry only */
};

struct buffer_ring_registration {
    uint64_t addr;
    uint32_t entries;
    uint16_t group, flags;
    uint64_t reserved[3];
};

struct registered_ring {
    uint32_t offset, reserved;
    uint64_t fd;
};

struct wait_argument {
    uint64_t sigmask;
    uint32_t sigmask_size, reserved;
    uint64_t timeout;
};

_Static_assert(sizeof(struct sqe) == 64, "sqe");
_Static_assert(sizeof(struct cqe) == 16, "cqe");
_Static_assert(sizeof(struct ring_params) == 120, "ring_params");
_Static_assert(sizeof(struct buffer) == 16, "buffer");
_Static_assert(sizeof(struct buffer_ring_registration) == 40, "buffer_ring_registration");
_Static_assert(sizeof(struct wait_argument) == 24, "wait_argument");

enum { SQ_ENTRIES = 4096, CQ_ENTRIES = 16384, TURN_NS = 10 * 1000 * 1000 };

static struct {
    int fd;
    struct sqe *sqes;
    struct cqe *cqes;
    uint32_t *sq_tail, *cq_head, *cq_tail;
    uint32_t cq_mask, tail, staged, index;
} ring;

static struct {
    struct buffer *ring;
    unsigned char *memory;
    uint32_t size, count;
    uint16_t tail;
} buffers;

static inline void open_ring(void) {
    struct ring_params params = {
        .flags = SETUP_CQSIZE | SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN,
        .cq_entries = CQ_ENTRIES,
    };
    ring.fd = (int)syscall(SYS_SETUP, SQ_ENTRIES, &params);
    if (ring.fd < 0) die("io_uring_setup: %m (io_uring of Linux 6.1 is needed)");

    size_t sq_size = params.sq.array + params.sq_entries * sizeof(uint32_t);
    size_t cq_size = params.cq.cqes + params.cq_entries * sizeof(struct cqe);
    unsigned char *base = must_map(ring.fd, sq_size > cq_size ? sq_size : cq_size, OFFSET_SQ_RING);
    ring.sqes = must_map(ring.fd, params.sq_entries * sizeof(struct sqe), OFFSET_SQES);
    ring.cqes = (struct cqe *)(base + params.cq.cqes);
    ring.sq_tail = (uint32_t *)(base + params.sq.tail);
    ring.cq_head = (uint32_t *)(base + params.cq.head);
    ring.cq_tail = (uint32_t *)(base + params.cq.tail);
    ring.cq_mask = params.cq_entries - 1;
    uint32_t *array = (uint32_t *)(base + params.sq.array);
    for (uint32_t i = 0; i < params.sq_entries; i++) array[i] = i;

    struct registered_ring registered = {.offset = UINT32_MAX, .fd = (uint64_t)ring.fd};
    if (syscall(SYS_REGISTER, ring.fd, REGISTER_RING_FDS, &registered, 1) != 1) die("registering the ring: %m");
    ring.index = registered.offset;
}

/* Submits what is staged and waits until `wait_for` completions are there, or a short while. */
static inline void enter(unsigned wait_for) {
    struct timespec timeout = {.tv_nsec = TURN_NS};
    struct wait_argument argument = {.timeout = (uintptr_t)&timeout};
    __atomic_store_n(ring.sq_tail, ring.tail, __ATOMIC_RELEASE);
    int flags = ENTER_GETEVENTS | ENTER_EXT_ARG | ENTER_REGISTERED_RING;
    long submitted = syscall(SYS_ENTER, ring.index, ring.staged, wait_for, flags, &argument, sizeof argument);
    if (submitted >= 0) ring.staged -= (uint32_t)submitted;
    else if (errno != ETIME && errno != EINTR && errno != EAGAIN && errno != EBUSY) die("io_uring_enter: %m");
}

static inline struct sqe *stage(void) {
    while (ring.staged == SQ_ENTRIES) enter(0);
    ring.staged++;
    struct sqe *sqe = &ring.sqes[ring.tail++ & (SQ_ENTRIES - 1)];
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

static inline void recycle(uint16_t id) {
    struct buffer *entry = &buffers.ring[buffers.tail++ & (buffers.count - 1)];
    entry->addr = (uintptr_t)(buffers.memory + (size_t)id * buffers.size);
    entry->len = buffers.size;
    entry->id = id;
    __atomic_store_n(&buffers.ring->tail, buffers.tail, __ATOMIC_RELEASE);
}

static inline void open_buffers(uint32_t count, uint32_t size) {
    buffers.count = count;
    buffers.size = size;
    buffers.memory = must_map(-1, (size_t)count * size, 0);
    buffers.ring = must_map(-1, count * sizeof(struct buffer), 0);
    struct buffer_ring_registration group = {.addr = (uintptr_t)buffers.ring, .entries = count};
    if (syscall(SYS_REGISTER, ring.fd, REGISTER_BUFFER_RING, &group, 1) < 0) die("buffer ring: %m");
    for (uint32_t id = 0; id < count; id++) recycle((uint16_t)id);
}

static inline unsigned char *buffer_memory(uint16_t id) { return buffers.memory + (size_t)id * buffers.size; }
