/* A backend carries a ring's operations: the kernel's io_uring, or the ring in user space on epoll(7).
 *
 * Both have the same queues in memory, the same SQEs and CQEs.  Everything above this table works on both.  A function
 * that can be refused returns 0 or more, or a negative errno.
 */
#ifndef UL_BACKEND_H
#define UL_BACKEND_H

#include "core.h"

/* ioprio of an engine's multishot RECV where `batches` is 0: a receive that leaves a part of its buffer free has
 * emptied the socket, as with TCP. */
#define UL_RECV_EMPTIES (1U << 15)

typedef struct {
    int batches; /* an enter with many SQEs costs less than a system call for each */
    /* Makes the ring with its queues, and fills in the fields of ul_ring; params as of io_uring_setup(2). */
    int (*set_up)(ul_ring *ring, uint32_t sq_entries, struct io_uring_params *params);
    /* Queues of other sizes; none is staged. */
    int (*resize)(ul_ring *ring, struct io_uring_params *params);
    /* Takes SQEs, waits, and makes CQEs, as io_uring_enter(2) with IORING_ENTER_EXT_ARG. */
    int (*enter)(ul_ring *ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
                 const struct io_uring_getevents_arg *arg);
    /* io_uring_register(2). */
    int (*control)(ul_ring *ring, uint32_t opcode, void *arg, uint32_t count);
    /* Whether an enter would find a completion; a loop that waits awake asks again and again. */
    int (*look)(ul_ring *ring);
    /* A new descriptor for an epoll set beside the ring: it is readable when an enter would complete something. */
    int (*open_descriptor)(ul_ring *ring);
    /* Before a sleep beside the ring: lets the descriptor speak.  After it: keeps it silent. */
    void (*arm)(ul_ring *ring);
    void (*disarm)(ul_ring *ring);
    /* Has each write to ring->wakeup's eventfd end an enter that waits. */
    int (*watch_wakeup)(ul_ring *ring);
    /* Ends an engine's request that only waits, without a CQE: 1; 0 where a cancel has to. */
    int (*withdraw)(ul_ring *ring, uint64_t token);
    /* An owned descriptor is about to be closed.  alone: no other code has a copy of it, but a forked child may. */
    void (*closes)(ul_ring *ring, int fd, int alone);
    /* Releases the queues; in a forked child the descriptor alone. */
    void (*close)(ul_ring *ring);
    void (*drop)(ul_ring *ring);
} ul_backend;

extern const ul_backend ul_backend_io_uring, ul_backend_epoll;

#endif
