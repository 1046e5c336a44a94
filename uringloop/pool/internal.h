/* What the pool's files share: its one lock, ports, jobs, threads.
 *
 * `ul_pool` and all fields of ports and jobs are under the one lock, except where a comment says otherwise.  No job
 * runs, no job is disposed of, and no descriptor is written to under the lock.
 *
 * A port with queued jobs stands in the pool's row of ports.  A thread takes one job of the first port, and puts that
 * port last.  So a loop with a thousand jobs does not hold up another one.
 *
 * At most one thread at a time is `coming`: woken or made, and not yet at the queue.  When it begins its job and more
 * are queued, it brings the next thread.  So a burst of submits costs the loop one system call.
 *
 * Idle threads are a stack.  The last one to lie down is woken first, so those that are too many sleep on, and end.
 *
 * The threads are detached, hold nothing of Python, and block signals.  The end of the process waits for none.  Signals
 * of faults stay unblocked, because a blocked one kills the process where a handler is meant to deal with it.
 *
 * A forked child has none of the threads.  It begins with an empty pool, in whatever state the fork found the parent's.
 * Its generation is a new one, so it knows the parent's ports from its own.
 */
#ifndef UL_POOL_INTERNAL_H
#define UL_POOL_INTERNAL_H

#include "pool.h"

#include <pthread.h>

enum { NEW, QUEUED, RUNNING, DETAINED, FINISHED, ABANDONED };

typedef struct {
    ul_job *first, *last;
} job_list;

struct ul_port {
    ul_port *next, *previous; /* in the pool's row, while it has queued jobs */
    job_list queued, running, finished;
    uint64_t announced;  /* writes to signal_fd that were begun; read without the lock */
    uint64_t drained;    /* of those, read by the owner; the owner's alone */
    uint32_t unfinished; /* the owner's alone */
    uint32_t writers;    /* threads that are about to write to signal_fd; counted down without the lock */
    uint32_t generation;
    int fd, signal_fd; /* the same eventfd, or the two ends of a pipe */
};

/* A thread without a job; on its own stack. */
typedef struct sleeper {
    struct sleeper *next, *previous;
    uint32_t woken; /* the futex */
} sleeper;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t written; /* a port's last writer is done */
    uint32_t closing;       /* ports that wait for it; read without the lock */
    uint32_t threads_max, stuck_max, idle_max_ms;
    uint32_t generation;
    /* From here on a forked child begins with zeroes. */
    ul_port *first, *last;
    sleeper *idle;
    int64_t refused_ns; /* when the system last refused a thread; 0: it did not */
    uint32_t threads, idle_count, stuck, queued;
    int coming;
} ul_pool_state;
extern ul_pool_state ul_pool;

/* jobs.c; under the lock, but for ul_port_announce */
void ul_jobs_unlink(job_list *list, ul_job *job);
ul_job *ul_jobs_take_all(job_list *list);
void ul_port_leave_row(ul_port *port);
void ul_job_enqueue(ul_port *port, ul_job *job);
void ul_job_dequeue(ul_port *port, ul_job *job);
ul_job *ul_job_begin_next(void);
ul_port *ul_job_end(ul_job *job);
void ul_port_announce(ul_port *port);

/* threads.c; under the lock, but for ul_pool_begin and ul_thread_wake */
void ul_pool_begin(void);
uint32_t ul_threads_healthy(void);
int ul_thread_may_be_made(void);
int ul_thread_make(void);
sleeper *ul_thread_summon(void);
void ul_thread_wake(sleeper *woken);

#endif
