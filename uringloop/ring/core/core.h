/* The C core: one io_uring with its two queues, its groups of buffers, its cancels and its waits.
 *
 * Every function runs on the ring's own thread, calls no Python, and allocates with malloc.  A function that can be
 * refused returns 0 or a negative errno.  The core is one shared library.  cffi binds it for rare calls
 * (tools/bindings.py), and Cython for those of each message.
 */
#ifndef UL_CORE_H
#define UL_CORE_H

#include "abi.h"

/* A token is a user_data: its low four bits say who serves the completion.  Its high bits are the ring's stamp. */
enum {
    UL_KIND_OPERATION = 0, /* Python: the in-flight table holds it */
    UL_KIND_CANCEL = 1,    /* a cancel of everything */
    UL_KIND_FOREIGN = 2, /* no SQE of this ring: a message of another one, or the tag of a resource that was released */
    UL_KIND_BUFFER = 3,  /* takes one buffer out of a group; above the kind is the group */
    UL_KIND_ENGINES = 4, /* from here on: the engines', see ul_engine */
    UL_KIND_CANCEL_BIT = 8, /* with the target's kind: a cancel of one */
};
#define UL_KIND_BITS 4
#define UL_SLOT_BITS 20

typedef struct ul_ring ul_ring;
typedef struct ul_wakeup ul_wakeup; /* see wakeup.h */

/* What carries a ring's operations; see backend.h. */
enum {
    UL_BACKEND_IO_URING = 0,
    UL_BACKEND_EPOLL = 1,
};

typedef struct {
    uint64_t submitted, completed, enters, overflows, rearms, batches_max, no_buffers, in_flight, streams;
    uint64_t datagrams, buffers, buffers_lent, bytes_received, bytes_sent, spins, spins_in_vain;
    uint64_t bulk_streams, cancels_lost;
} ul_statistics;

/* What Python hears of: a CQE of an operation, or what an engine made of one. */
typedef struct {
    uint64_t token; /* of the operation; unused otherwise */
    int32_t res;
    uint32_t flags; /* CQE flags of the operation */
    void *owner;    /* as the engine was given it; NULL for an operation */
    uint32_t what;  /* the engine's bits */
    uint32_t buffer_id;
    const char *data; /* in the buffer of this id, lent until it is recycled */
} ul_outcome;

/* Groups of receive buffers. */
enum {
    UL_GROUP_BYTES = 0, /* for bytes in order: made when first needed */
    UL_GROUPS = 2,      /* an engine may have one more */
};

/* ring.c */
ul_ring *ul_ring_open(uint32_t backend, uint32_t sq_entries, uint32_t cq_entries, uint32_t setup_flags,
                      uint32_t idle_ms, uint32_t cpu, int attach_fd, int *error);
uint32_t ul_ring_backend(ul_ring *ring);
int ul_ring_check(ul_ring *ring);
int ul_ring_enable(ul_ring *ring);
int ul_ring_refuses(ul_ring *ring);
int ul_ring_dropped(ul_ring *ring);
int ul_ring_resize(ul_ring *ring, uint32_t sq_entries, uint32_t cq_entries);
int ul_ring_register_fd(ul_ring *ring);
int ul_ring_unregister_fd(ul_ring *ring);
void ul_ring_close(ul_ring *ring, int only_watches);
void ul_ring_drop(ul_ring *ring);
int ul_ring_fd(ul_ring *ring);
uint32_t ul_ring_detained(ul_ring *ring);
uint32_t ul_ring_features(ul_ring *ring);
uint32_t ul_ring_setup_flags(ul_ring *ring);
uint32_t ul_ring_entries(ul_ring *ring, int completion_queue);
void ul_ring_statistics(ul_ring *ring, ul_statistics *out);

/* queue.c */
int ul_ring_register(ul_ring *ring, uint32_t opcode, void *arg, uint32_t count);
int64_t ul_now_ns(void);
uint64_t ul_in_flight(ul_ring *ring);
uint64_t ul_completed(ul_ring *ring);
uint32_t ul_staged(ul_ring *ring);
int ul_wait(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns, uint32_t enter_flags,
            const uint64_t *signal_mask);
int ul_enter(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns);
int ul_reserve(ul_ring *ring, uint32_t count);
int ul_unstage(ul_ring *ring, uint64_t *token);
struct io_uring_sqe *ul_sqe_at(ul_ring *ring, uint32_t place);
uint32_t ul_place(ul_ring *ring);
int ul_disown(ul_ring *ring, uint64_t token);
void ul_retire(ul_ring *ring);
struct io_uring_sqe *ul_next_sqe(ul_ring *ring, int *error);
uint64_t ul_operation_token(ul_ring *ring);

/* reap.c */
int ul_reap_ready(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity);
int ul_reap(ul_ring *ring, ul_outcome *outcomes, uint32_t capacity);
void ul_let_overflow(ul_ring *ring);

/* first_use.c */
int ul_buffers_plan(ul_ring *ring, uint32_t count, uint32_t size_bytes, uint32_t count_max);
int ul_buffers_need(ul_ring *ring);
int ul_ring_allow_growth(ul_ring *ring, uint32_t cq_entries);
int ul_ring_wants_room(ul_ring *ring);
int ul_ring_make_room(ul_ring *ring);

/* cancel.c */
int ul_stage_cancel(ul_ring *ring, uint64_t token);
int ul_stage_cancel_all(ul_ring *ring);
uint32_t ul_cancels(ul_ring *ring);
uint32_t ul_cancel_targets(ul_ring *ring);
void ul_cancel_drop(ul_ring *ring, uint64_t token);
int ul_withdraw(ul_ring *ring, uint64_t token);

/* wait.c */
int ul_found_readers(const ul_ring *ring);
int ul_has_work(ul_ring *ring);
int ul_is_awake(ul_ring *ring);
int ul_begin_idly(ul_ring *ring, uint32_t unhurried);
int ul_prepare(ul_ring *ring, int64_t *timeout_ns);
int ul_spin(ul_ring *ring, int64_t for_ns);
int ul_sleep(ul_ring *ring, int64_t timeout_ns, int64_t spin_ns);
int ul_descriptor_open(ul_ring *ring);
void ul_descriptor_arm(ul_ring *ring);
void ul_descriptor_disarm(ul_ring *ring);
void ul_descriptor_closes(ul_ring *ring, int fd, int alone);
void ul_ring_watch_wakeup(ul_ring *ring, ul_wakeup *wakeup, int multishot);

/* io_uring.c */
int ul_send_message(void *sqe);

/* buffers.c */
int ul_buffers_open(ul_ring *ring, uint32_t group_id, uint32_t count, uint32_t size_bytes, uint32_t count_max,
                    int sparse);
int ul_buffers_found_empty(ul_ring *ring, uint32_t group_id);
void ul_buffer_provide(struct io_uring_buf *entries, uint32_t entry_count, uint16_t tail, void *memory,
                       uint32_t size_bytes, uint16_t buffer_id);
void ul_buffers_close(ul_ring *ring, uint32_t group_id);
char *ul_buffer_lend(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower);
void ul_buffer_recycle(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower);

#endif
