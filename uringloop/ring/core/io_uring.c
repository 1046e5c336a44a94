/* The backend in the kernel: io_uring's three system calls, and its queues in shared memory.
 *
 * Memory shared with the kernel is not inherited by fork (MADV_DONTFORK): a child that touched it would corrupt the
 * parent's queues.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

static int control(ul_ring *ring, uint32_t opcode, void *arg, uint32_t count)
{
    long result = syscall(__NR_io_uring_register, ring->fd, opcode, arg, count);
    return result < 0 ? -errno : (int)result;
}

/* Sends a message to a ring without having one: sqe is a MSG_RING. */
int ul_send_message(void *sqe)
{
    long result = syscall(__NR_io_uring_register, -1, IORING_REGISTER_SEND_MSG_RING, sqe, 1);
    return result < 0 ? -errno : (int)result;
}

/* The kernel maps all pages of a ring at once, so MAP_POPULATE would only walk through them again. */
static void *map_shared(int fd, size_t size, uint64_t offset)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, size, MADV_DONTFORK);
    return memory;
}

static void unmap_queues(ul_ring *ring)
{
    if (ring->ring_map != NULL)
        munmap(ring->ring_map, ring->ring_map_size);
    if (ring->sqe_map != NULL)
        munmap(ring->sqe_map, ring->sqe_map_size);
}

static int map_queues(ul_ring *ring, const struct io_uring_params *p)
{
    size_t sq_size = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    size_t cq_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    if (p->flags & IORING_SETUP_NO_SQARRAY)
        sq_size = p->sq_off.flags + sizeof(uint32_t);
    ring->ring_map_size = sq_size > cq_size ? sq_size : cq_size;
    ring->ring_map = map_shared(ring->fd, ring->ring_map_size, IORING_OFF_SQ_RING);
    ring->sqe_map_size = p->sq_entries * sizeof(struct io_uring_sqe);
    ring->sqe_map = map_shared(ring->fd, ring->sqe_map_size, IORING_OFF_SQES);
    if (ring->ring_map == NULL || ring->sqe_map == NULL)
        return -errno;

    char *base = ring->ring_map;
    ring->sq_head = (uint32_t *)(base + p->sq_off.head);
    ring->sq_tail = (uint32_t *)(base + p->sq_off.tail);
    ring->sq_flags = (uint32_t *)(base + p->sq_off.flags);
    ring->sq_mask = *(uint32_t *)(base + p->sq_off.ring_mask);
    ring->sqes = ring->sqe_map;
    ring->cq_head = (uint32_t *)(base + p->cq_off.head);
    ring->cq_tail = (uint32_t *)(base + p->cq_off.tail);
    ring->cq_mask = *(uint32_t *)(base + p->cq_off.ring_mask);
    ring->cqes = (struct io_uring_cqe *)(base + p->cq_off.cqes);
    ring->cq_flags = p->cq_off.flags ? (uint32_t *)(base + p->cq_off.flags) : NULL;
    ring->sqe_tail = *ring->sq_tail;
    if (!(p->flags & IORING_SETUP_NO_SQARRAY)) {
        uint32_t *array = (uint32_t *)(base + p->sq_off.array);
        for (uint32_t i = 0; i < p->sq_entries; i++)
            array[i] = i;
    }
    return 0;
}

static int set_up(ul_ring *ring, uint32_t sq_entries, struct io_uring_params *params)
{
    const uint32_t needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
                            IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG;
    ring->fd = (int)syscall(__NR_io_uring_setup, sq_entries, params);
    if (ring->fd < 0)
        return -errno;
    ring->enter_fd = ring->fd;
    /* An idle ring is no wait for a disk: without this the kernel counts its CPU as waiting for I/O. */
    ring->wait_flags = params->features & IORING_FEAT_NO_IOWAIT ? IORING_ENTER_NO_IOWAIT : 0;
    int error = (params->features & needed) == needed ? map_queues(ring, params) : -ENOSYS;
    if (error < 0) {
        close(ring->fd);
        unmap_queues(ring);
    }
    return error;
}

static int resize(ul_ring *ring, struct io_uring_params *params)
{
    int result = control(ring, IORING_REGISTER_RESIZE_RINGS, params, 1);
    if (result < 0)
        return result;
    unmap_queues(ring);
    return map_queues(ring, params);
}

static int enter(ul_ring *ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
                 const struct io_uring_getevents_arg *arg)
{
    long result = syscall(__NR_io_uring_enter, ring->enter_fd, to_submit, min_complete, flags, arg, sizeof(*arg));
    return result < 0 ? -errno : (int)result;
}

static int look(ul_ring *ring) { return cqes_ready(ring) || tells_of_work(ring); }

static int open_descriptor(ul_ring *ring)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    int error = control(ring, IORING_REGISTER_EVENTFD, &fd, 1);
    if (error < 0) {
        close(fd);
        return error;
    }
    return fd;
}

/* The barrier orders this against the checks that follow. */
static void arm(ul_ring *ring)
{
    if (ring->cq_flags != NULL)
        __atomic_store_n(ring->cq_flags, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void disarm(ul_ring *ring)
{
    if (ring->cq_flags != NULL)
        __atomic_store_n(ring->cq_flags, IORING_CQ_EVENTFD_DISABLED, __ATOMIC_RELAXED);
}

/* The poll stays for the ring's life.  It does not count as in flight, because no close needs to wait for its end. */
static int watch_wakeup(ul_ring *ring)
{
    int error;
    struct io_uring_sqe *sqe = ul_next_sqe(ring, &error);
    if (sqe == NULL)
        return error;
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = ring->wakeup->fd;
    sqe->len = ring->wakeup_multishot ? IORING_POLL_ADD_MULTI : 0;
    sqe->op_flags = POLLIN;
    sqe->user_data = ring->stamp;
    ring->statistics.in_flight--;
    return 0;
}

static int withdraw(ul_ring *ring, uint64_t token)
{
    (void)ring, (void)token;
    return 0;
}

static void closes(ul_ring *ring, int fd, int alone) { (void)ring, (void)fd, (void)alone; }

static void close_ring(ul_ring *ring)
{
    ul_ring_unregister_fd(ring);
    close(ring->fd);
    unmap_queues(ring);
}

static void drop(ul_ring *ring) { close(ring->fd); }

const ul_backend ul_backend_io_uring = {1,   set_up, resize,       enter,    control, look,       open_descriptor,
                                        arm, disarm, watch_wakeup, withdraw, closes,  close_ring, drop};
