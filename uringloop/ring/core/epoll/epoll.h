/* What the files of the backend on epoll(7) share.
 *
 * An SQE becomes a request.  A request is tried at once.  If it would block, it waits for its descriptor in the epoll
 * set, for its time in the heap, or for a thread of the pool.
 */
#ifndef UL_EPOLL_RING_H
#define UL_EPOLL_RING_H

#include "../../../pool/pool.h"
#include "../internal.h"
#include "../readers.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

/* As splice_fd_in: whichever slot of the registered files is free.  Here are none. */
#define UL_ANY_SLOT (-1)

typedef struct ul_request ul_request;
typedef struct ul_user ul_user;

/* What a try answers in place of a result. */
enum {
    UL_TRY_WAIT = INT32_MIN, /* wait for request->events of its descriptor, then try again */
    UL_TRY_BLOCK,            /* a thread of the pool is to run ul_run_blocking */
    UL_TRY_HELD,             /* it has placed itself */
};

enum {
    UL_REQUEST_QUEUED,  /* behind a link or a drain */
    UL_REQUEST_TRIED,   /* in hand */
    UL_REQUEST_WAITING, /* in the list of its descriptor */
    UL_REQUEST_READY,   /* in the list of those to be tried again */
    UL_REQUEST_TIMED,   /* in the heap, or counts completions; or until its next try */
    UL_REQUEST_BLOCKED, /* the pool's */
};

struct ul_request {
    ul_job job; /* first: the pool gives this back */
    struct io_uring_sqe sqe;
    ul_user *user;
    ul_request *next_of_hash, *next_of_all, **link_of_all;
    ul_request *next, *previous; /* in the list that its state says */
    ul_request *linked;          /* begins when this one has ended well */
    ul_request *timeout;         /* its LINK_TIMEOUT; of a LINK_TIMEOUT: what it bounds */
    int64_t deadline_ns;         /* TIMED */
    int64_t interval_ns;         /* of a multishot timeout; else the pause before the next try */
    uint64_t count_end;          /* TIMED: so many completions, 0 for none */
    uint32_t heap_place;         /* from 1; 0: not in the heap */
    uint32_t events, repeats;    /* what it waits for; of a multishot timeout: how often it fires, 0 for ever */
    size_t done;                 /* bytes moved by earlier tries */
    int fd;                      /* that it waits for */
    uint64_t device, inode;      /* of a foreign descriptor, when it was first tried */
    uint64_t cancel_pass;        /* the last cancel of many that looked at it */
    int32_t res;                 /* of the pool, or of the checks */
    uint32_t cqe_flags;          /* of the last CQE */
    uint8_t state, tried, owned; /* owned: the descriptor is an endpoint's */
    uint8_t is_always_ready;     /* epoll refuses the descriptor */
    uint8_t is_unwanted;         /* a cancel has found its call running */
    uint8_t detained;            /* its waiter was told not to wait */
    uint8_t has_run;             /* the pool has made the call */
    uint8_t holds_file;          /* fd is its own: a FIFO whose writer it waits for, or a pidfd */
    uint8_t lost_file;           /* the descriptor is closed, or another file's */
    uint8_t is_refused;          /* a check failed, with this res */
    uint8_t empties;             /* UL_RECV_EMPTIES */
    struct epoll_event event;    /* the last one */
    struct msghdr asked;         /* of a multishot receive of messages */
    void *buffer;                /* of a group, that a message goes into */
    size_t buffer_size;          /* of a receive into a group: what it asks for */
};

typedef struct {
    ul_request *first, *last;
} ul_request_list;

/* A descriptor that requests wait for. */
typedef struct {
    ul_request_list waiting;
    uint32_t interest;                                       /* in the epoll set; 0: not there, or switched off */
    uint32_t entry;                                          /* counts the entries that this number has had */
    uint32_t forks;                                          /* of this process, when it came into the set */
    uint8_t in_set, unheard;                                 /* unheard: events in a row for which no request waited */
    uint8_t reader_in_set;                                   /* in place of a request's entry: a reader's (readers.c) */
    uint8_t reader_missed;                                   /* its event was dropped, and its entry switched off */
    uint32_t reader_events, reader_generation, reader_round; /* reader_round: when it was last told of */
} ul_watched;

/* A buffer group that a ring registered. */
typedef struct ul_group ul_group;
struct ul_group {
    ul_group *next;
    struct io_uring_buf *entries;
    uint32_t count;
    uint16_t id, head;
};

typedef struct ul_late_cqe ul_late_cqe;

struct ul_user {
    ul_ring *ring;
    int (*try)(ul_request *request);                         /* operation.c: the result, or UL_TRY_* */
    int (*is_short)(const ul_request *request, int32_t res); /* less than was asked for, which breaks a link */
    int epoll_fd, event_fd, timer_fd, has_pwait2, port_in_set, disabled;
    int skips;       /* an SQE has had IOSQE_CQE_SKIP_SUCCESS: no other may drain */
    int drains_next; /* the chain behind this one drains, too */
    int is_beginning;
    int woken;     /* by the loop's eventfd, in this enter */
    ul_port *port; /* made by the first blocking request */
    uint64_t posted, cancel_passes;
    int64_t timer_ns; /* when timer_fd fires; INT64_MAX: it does not */
    uint32_t active;  /* begun and not ended */
    ul_request *all, *free_requests;
    ul_request **by_token;
    uint32_t token_capacity, token_count;
    ul_watched *watched;
    uint32_t watched_count;
    ul_request **heap;
    uint32_t heap_count, heap_capacity;
    ul_request_list ready, counting, deferred, begun;
    ul_group *groups;
    ul_late_cqe *late_first, *late_last; /* CQEs that found the queue full */
    uint32_t late_count;
    struct epoll_event *events;
    int event_count;
    uint32_t rounds;
};

/* request.c */
ul_request *ul_request_take(ul_user *user, const struct io_uring_sqe *sqe);
ul_request *ul_request_find(ul_user *user, uint64_t token);
void ul_request_rename(ul_request *request, uint64_t token);
void ul_request_post(ul_request *request, int32_t res, uint32_t flags);
void ul_request_post_last(ul_request *request, int32_t res, uint32_t flags, int failed);
void ul_request_run_again(ul_request *request);
void ul_request_release(ul_request *request);
void ul_requests_free(ul_user *user);
void ul_list_append(ul_request_list *list, ul_request *request);
void ul_list_remove(ul_request_list *list, ul_request *request);
void ul_post(ul_user *user, uint64_t user_data, int32_t res, uint32_t flags);
void ul_flush_late(ul_user *user);

/* watch.c */
ul_watched *ul_watched_at(ul_user *user, int fd);
int ul_watch_leaves(const ul_user *user, int fd, ul_watched *watched);
void ul_watches_begin(void);
int ul_watch(ul_request *request);
void ul_unwatch(ul_request *request);
ul_request *ul_watch_event(ul_user *user, const struct epoll_event *event);
short ul_poll_now(int fd, short events);
void ul_watch_closes(ul_user *user, int fd, int alone);
void ul_watch_lose(ul_user *user, int fd);
void ul_watches_check(ul_user *user);
void ul_watches_free(ul_user *user);

/* readers.c */
#define UL_OTHER_SET_DATA (UINT64_MAX - 3)
int ul_readers_alone(const ul_user *user);
void ul_readers_serve(ul_user *user);

/* timer.c */
int ul_timer_add(ul_request *request, int64_t deadline_ns);
int ul_try_later(ul_request *request);
void ul_timer_remove(ul_request *request);
int ul_read_time(const void *address, int64_t *time_ns);
int ul_deadline_at(const void *address, uint32_t flags, int64_t *deadline_ns);
int ul_deadline(const struct io_uring_sqe *sqe, int64_t *deadline_ns);
int64_t ul_timers_next(const ul_user *user);

/* checks.c */
int ul_check(ul_user *user, const struct io_uring_sqe *sqe);

/* life.c */
void ul_request_submit(ul_request *head);
void ul_chain_refuse(ul_request *head);
void ul_request_try(ul_request *request);
void ul_request_is_long(ul_request *request, int64_t now_ns);
void ul_request_finish_call(ul_request *request);
void ul_request_try_in_place(ul_request *request);
void ul_request_complete(ul_request *request, int32_t res, uint32_t flags);
int ul_request_withdraw(ul_request *request);
void ul_requests_run_ready(ul_user *user);

/* cancelling.c */
int ul_cancel_request(ul_request *request);
int ul_cancel_matching(ul_user *user, ul_request *asking, uint64_t token, int fd, uint32_t flags, int opcode);
int ul_try_cancel(ul_request *request);

/* timeout.c */
int ul_try_timeout(ul_request *request);
int ul_try_timeout_remove(ul_request *request);
void ul_timers_fire(ul_user *user);

/* group.c */
int ul_group_register(ul_user *user, const struct io_uring_buf_reg *reg);
int ul_group_unregister(ul_user *user, const struct io_uring_buf_reg *reg);
int ul_group_status(ul_user *user, uint32_t *status);
const struct io_uring_buf *ul_group_next(ul_user *user, uint16_t id);
uint32_t ul_group_use(ul_user *user, uint16_t id);
void ul_groups_free(ul_user *user);

/* operation.c */
int ul_try(ul_request *request);
int ul_has_opcode(uint32_t opcode);
int ul_is_short(const ul_request *request, int32_t res);

/* socket.c */
size_t ul_asked_size(const ul_request *request);
int ul_try_receive(ul_request *request);
int ul_try_receive_message(ul_request *request);
int ul_try_send(ul_request *request);
int ul_try_send_message(ul_request *request);
int ul_try_accept(ul_request *request);
int ul_try_connect(ul_request *request);
int ul_try_socket(ul_request *request);
int ul_try_bind(ul_request *request);
int ul_try_listen(ul_request *request);
int ul_try_shutdown(ul_request *request);
int ul_try_command(ul_request *request);

/* transfer.c */
enum {
    UL_FILE_ON_DISK,
    UL_FILE_NEVER_WAITS,
    UL_FILE_WAITS,
};
int ul_kind_of_file(int fd);
int ul_is_blocking(int fd);
size_t ul_vector_size(const struct io_uring_sqe *sqe);
int ul_try_read(ul_request *request);
int ul_try_write(ul_request *request);
int ul_try_read_multishot(ul_request *request);
int ul_try_splice(ul_request *request);
int ul_try_tee(ul_request *request);
int ul_try_poll(ul_request *request);
int ul_try_poll_remove(ul_request *request);
int ul_try_wait_child(ul_request *request);
int ul_try_epoll_wait(ul_request *request);

/* opening.c, blocking.c: on a thread of the pool, but for accepts that do not wait */
int ul_open_file(ul_request *request);
int ul_accept(const struct io_uring_sqe *sqe);
int ul_refuse_slot(const struct io_uring_sqe *sqe);
#define UL_LONG_CALL_NS 100000000LL /* after so long, another thread takes the place of a call's thread */
void ul_run_blocking(ul_job *job);
void ul_drop_result(ul_job *job);

static inline int ul_wait_for(ul_request *request, uint32_t events)
{
    request->events = events;
    return UL_TRY_WAIT;
}

#endif
