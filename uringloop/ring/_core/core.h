/* The C core: one io_uring with its queues, and the engines for streams and datagrams on top of it.
 *
 * Everything here runs on the ring's own thread, never calls Python, and allocates with malloc.  Functions that can be
 * refused return 0 or a negative errno.  Bound twice, to the same functions: by cffi (ring/build.py) and by
 * ring/hot.pyx.
 */
#ifndef UL_CORE_H
#define UL_CORE_H

#include "abi.h"

/* A token is a user_data: its low four bits say who hears of the completion.  Its high bits are the ring's stamp. */
enum {
    UL_KIND_OPERATION = 0, /* Python: the in-flight table holds it */
    UL_KIND_RECEIVE = 1,   /* a stream's receive */
    UL_KIND_SEND = 2,      /* a stream's send */
    UL_KIND_CANCEL = 3,    /* a cancel of everything */
    UL_KIND_DATAGRAM_RECEIVE = 4,
    UL_KIND_DATAGRAM_SEND = 5,
    UL_KIND_FOREIGN = 6,    /* no SQE of this ring: a message of another ring, or the tag of a resource that is gone */
    UL_KIND_BUFFER = 7,     /* takes one buffer out of a group; above the kind is the group */
    UL_KIND_CANCEL_BIT = 8, /* with the target's kind: a cancel of one */
};
#define UL_KIND_BITS 4
#define UL_SLOT_BITS 20

typedef struct ul_ring ul_ring;
typedef struct ul_stream ul_stream;
typedef struct ul_chunk ul_chunk;
typedef struct ul_datagram ul_datagram;

typedef struct {
    uint64_t submitted, completed, enters, overflows, rearms, batches_max, no_buffers, in_flight, streams;
    uint64_t datagrams, buffers, buffers_lent, bytes_received, bytes_sent, spins, spins_in_vain;
    uint64_t bulk_streams, cancels_lost;
} ul_statistics;

/* What Python hears of: a CQE of an operation, or what became of a stream or datagram socket. */
typedef struct {
    uint64_t token; /* of the operation; unused otherwise */
    int32_t res;
    uint32_t flags; /* CQE flags of the operation */
    void *owner;    /* as given to ul_stream_open or ul_datagram_open; NULL for an operation */
    uint32_t what;  /* UL_STREAM_* or UL_DATAGRAM_* bits */
    uint32_t buffer_id;
    const char *data; /* UL_STREAM_DATA: res bytes; UL_DATAGRAM_DATA: see there; lent until recycled */
} ul_event;

enum {
    UL_STREAM_DATA = 1,
    UL_STREAM_EOF = 2,
    UL_STREAM_RECEIVE_ERROR = 4, /* res is the negative errno */
    UL_STREAM_LOW = 8,           /* the send queue fell to the low-water mark */
    UL_STREAM_RELEASED = 16,
    UL_STREAM_CLOSED = 32, /* the kernel has let go of the socket: it may be closed */
    UL_STREAM_EMPTY = 64,  /* the send queue is empty, as asked by ul_stream_notify_empty */
    UL_STREAM_SEND_ERROR = 128,
    UL_STREAM_HANGUP = 256,   /* what ul_stream_watch waits for; res: whether something was queued */
    UL_STREAM_READABLE = 512, /* ul_stream_take may find something */
};

enum {
    UL_DATAGRAM_DATA = 1, /* event data: a struct io_uring_recvmsg_out, UL_NAME_SIZE bytes of address, the datagram */
    UL_DATAGRAM_RECEIVE_ERROR = 2, /* res is the negative errno; receiving goes on */
    UL_DATAGRAM_SEND_ERROR = 4,    /* the same of a queued datagram, which is dropped */
    UL_DATAGRAM_LOW = 8,           /* the queue fell to the low-water mark */
    UL_DATAGRAM_CLOSED = 16,       /* the kernel has let go of the socket: it may be closed */
    UL_DATAGRAM_READABLE = 32,     /* ul_datagram_take may find something */
};

/* Groups of receive buffers. */
enum {
    UL_GROUP_STREAM = 0,
    UL_GROUP_DATAGRAM = 1,
    UL_GROUPS = 2,
};

#define UL_NAME_SIZE 128            /* room for the address of any family */
#define UL_DATAGRAM_SIZE_MAX 262144 /* what asyncio receives at most */
#define UL_DATAGRAM_BUFFER_SIZE (16 + UL_NAME_SIZE + UL_DATAGRAM_SIZE_MAX)

/* ring.c */
uint64_t ul_build(void); /* a number of the sources that this was built from, which ring/build.py makes */
ul_ring *ul_ring_open(uint32_t sq_entries, uint32_t cq_entries, uint32_t setup_flags, uint32_t idle_ms, uint32_t cpu,
                      int attach_fd, int *error);
int ul_ring_check(ul_ring *ring);
int ul_ring_enable(ul_ring *ring);
int ul_ring_refuses(ul_ring *ring);
int ul_ring_forgotten(ul_ring *ring);
int ul_ring_resize(ul_ring *ring, uint32_t sq_entries, uint32_t cq_entries);
int ul_ring_register_fd(ul_ring *ring);
int ul_ring_unregister_fd(ul_ring *ring);
void ul_ring_close(ul_ring *ring, int only_watches);
void ul_ring_forget(ul_ring *ring);
int ul_ring_fd(ul_ring *ring);
uint32_t ul_ring_features(ul_ring *ring);
uint32_t ul_ring_setup_flags(ul_ring *ring);
uint32_t ul_ring_entries(ul_ring *ring, int completion_queue);
int ul_ring_register(int ring_fd, uint32_t opcode, void *arg, uint32_t count);
void ul_ring_statistics(ul_ring *ring, ul_statistics *out);

struct io_uring_sqe *ul_next_sqe(ul_ring *ring, int *error);
uint64_t ul_operation_token(ul_ring *ring);
int ul_reserve(ul_ring *ring, uint32_t count);
int ul_unstage(ul_ring *ring, uint64_t *token);
uint32_t ul_place(ul_ring *ring);
struct io_uring_sqe *ul_sqe_at(ul_ring *ring, uint32_t place);
void ul_retire(ul_ring *ring);
uint32_t ul_staged(ul_ring *ring);
int ul_disown(ul_ring *ring, uint64_t token);
uint64_t ul_in_flight(ul_ring *ring);
uint64_t ul_completed(ul_ring *ring);
int64_t ul_now_ns(void);
int ul_enter(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns);
int ul_wait(ul_ring *ring, uint32_t min_complete, int64_t timeout_ns, uint32_t enter_flags,
            const uint64_t *signal_mask);
int ul_reap_ready(ul_ring *ring, ul_event *events, uint32_t capacity);
int ul_reap(ul_ring *ring, ul_event *events, uint32_t capacity);
void ul_let_overflow(ul_ring *ring);
int ul_next_cqe(ul_ring *ring, struct io_uring_cqe *out);

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
void ul_cancel_forget(ul_ring *ring, uint64_t token);

/* sleep.c */
int ul_has_work(ul_ring *ring);
int ul_prepare(ul_ring *ring, int64_t *timeout_ns);
int ul_spin(ul_ring *ring, int64_t for_ns);
int ul_sleep(ul_ring *ring, int64_t timeout_ns, int64_t spin_ns);
int ul_eventfd_open(ul_ring *ring);
int ul_eventfd_register(ul_ring *ring, int eventfd);
void ul_eventfd_arm(ul_ring *ring);
void ul_eventfd_disarm(ul_ring *ring);

/* file.c */
typedef struct {
    uint32_t mode, block_size_bytes;
    uint64_t size_bytes;
} ul_file_status;
int64_t ul_file_read_now(int fd, void *buffer, size_t size_bytes, int64_t offset);
int ul_file_open_now(const char *path, int flags, ul_file_status *out);
int ul_file_status_now(int fd, ul_file_status *out);

/* watch.c: the epoll set that the selector keeps, waited on with nanoseconds */
#define UL_WATCH_MAX 256
typedef struct {
    uint32_t events;
    int32_t fd;
} ul_watch_event;
int ul_watch_edge(int epoll_fd, int fd);
int ul_watch_wait(int epoll_fd, ul_watch_event *events, int capacity, int64_t timeout_ns);

/* buffers.c */
int ul_buffers_open(ul_ring *ring, uint32_t group_id, uint32_t count, uint32_t size_bytes, uint32_t count_max);
int ul_buffers_found_empty(ul_ring *ring, uint32_t group_id);
void ul_buffer_provide(struct io_uring_buf *entries, uint32_t entry_count, uint16_t tail, void *memory,
                       uint32_t size_bytes, uint16_t buffer_id);
void ul_buffers_close(ul_ring *ring, uint32_t group_id);
char *ul_buffer_lend(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower);
void ul_buffer_recycle(ul_ring *ring, uint32_t group_id, uint32_t buffer_id, const void *borrower);

/* stream.c */
enum {
    UL_OPEN_MULTISHOT = 1, /* receive through the buffer group, if there is one */
    UL_OPEN_PIPE = 2,      /* READ and WRITE; else RECV and SEND */
    UL_OPEN_POLLS = 4,     /* poll before each READ and WRITE of a pipe */
    UL_OPEN_OWN_TCP = 8,   /* TCP, and nobody else has the socket: the last bytes can wait for the FIN */
};
void ul_streams_allow_bulk(ul_ring *ring, uint32_t streams_max);
ul_stream *ul_stream_open(ul_ring *ring, int fd, void *owner, uint32_t flags);
int ul_stream_receive(ul_stream *stream);
void ul_stream_watch(ul_stream *stream, uint32_t events);
int ul_stream_hold(ul_stream *stream);
void ul_stream_recycle(ul_stream *stream, const ul_event *event);
int ul_stream_take(ul_stream *stream, void *buffer, size_t size_bytes);
int ul_stream_takes_much(ul_stream *stream);
int ul_streams_give_turns(ul_ring *ring, ul_event *events, uint32_t capacity);
int ul_stream_write(ul_stream *stream, const void *data, size_t size_bytes);
int ul_stream_write_pinned(ul_stream *stream, const void *data, size_t size_bytes, void *pin);
void ul_stream_send_queued(ul_stream *stream);
int ul_stream_may_be_last(ul_stream *stream);
int ul_streams_send(ul_ring *ring, int all);
size_t ul_stream_send_now(ul_stream *stream, const void *data, size_t size_bytes);
int ul_stream_quiet(ul_stream *stream);
void *ul_stream_released(ul_stream *stream);
int ul_stream_take_back(ul_stream *stream, size_t size_bytes);
size_t ul_stream_queued(ul_stream *stream);
int ul_stream_finished(ul_stream *stream);
void ul_stream_share(ul_stream *stream);
void ul_stream_notify_low(ul_stream *stream, size_t low_water_bytes);
void ul_stream_notify_empty(ul_stream *stream);
int ul_stream_write_eof(ul_stream *stream);
int ul_stream_close(ul_stream *stream);
int ul_stream_abort(ul_stream *stream);
void ul_stream_free(ul_stream *stream);

/* datagram.c */
ul_datagram *ul_datagram_open(ul_ring *ring, int fd, void *owner, int multishot, uint32_t overhead_bytes);
int ul_datagram_receive(ul_datagram *datagram);
int ul_datagram_hold(ul_datagram *datagram);
void ul_datagram_recycle(ul_datagram *datagram, const ul_event *event);
int ul_datagram_take(ul_datagram *datagram, void *buffer);
int ul_datagram_send(ul_datagram *datagram, const void *data, size_t size_bytes, const void *name, uint32_t name_size,
                     int may_queue);
size_t ul_datagram_queued(ul_datagram *datagram);
void ul_datagram_notify_low(ul_datagram *datagram, size_t low_water_bytes);
int ul_datagram_quiet(ul_datagram *datagram);
int ul_datagram_close(ul_datagram *datagram);
int ul_datagram_abort(ul_datagram *datagram);
void ul_datagram_free(ul_datagram *datagram);

/* spawn.c, spawn_child.c: a child process whose start stalls nobody */
typedef struct {
    const char *arguments, *programs, *environment; /* strings one after the other; environment NULL: this process's */
    size_t arguments_size, programs_size, environment_size;
    const char *directory; /* NULL: stay here */
    const int32_t *kept;   /* descriptors to be inherited, ascending, without the report's */
    const uint32_t *groups;
    int32_t kept_count, group_count; /* group_count -1: keep the groups */
    int32_t input, output, error,
        report; /* what becomes 0, 1 and 2, if not -1; the report's end of the pipe, above 2 */
    int32_t close_others, restore_signals, new_session, process_group, umask; /* the last two: -1 to leave as it is */
    int64_t uid, gid;
} ul_spawn_plan;

typedef struct {
    int32_t stage; /* UL_SPAWN_* */
    int32_t error; /* errno */
} ul_spawn_report;

enum {
    UL_SPAWN_PROGRAM = 0, /* where it failed */
    UL_SPAWN_PREPARING = 1,
    UL_SPAWN_DIRECTORY = 2,
    UL_SPAWN_FUNCTION = 3,
    UL_SPAWN_CLOSED = 4, /* no failure: it has a table of descriptors of its own */
};

typedef struct ul_spawn ul_spawn;
ul_spawn *ul_spawn_open(const ul_spawn_plan *plan, int *error);
int ul_spawn_start(ul_spawn *spawn, int *pidfd);
void ul_spawn_let_go(ul_spawn *spawn);
int ul_spawn_holds(const ul_spawn *spawn);
void ul_spawn_prepare_here(ul_spawn *spawn);
void ul_spawn_run_here(ul_spawn *spawn);
void ul_spawn_fail_here(ul_spawn *spawn);
void ul_spawn_free(ul_spawn *spawn);

#endif
