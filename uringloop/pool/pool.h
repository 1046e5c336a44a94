/* A pool of threads for calls that may block, and the ports where loops get their finished jobs back.
 *
 * One pool serves the whole process.  A port belongs to one loop: only one thread at a time calls its functions.  They
 * return at once, whatever the jobs do.
 */
#ifndef UL_POOL_H
#define UL_POOL_H

#include <stdint.h>

typedef struct ul_port ul_port;
typedef struct ul_job ul_job;

/* One call.  Its caller sets run and dispose, and zeroes the rest.  From the submit until it is taken or withdrawn, the
 * job and all that run touches stay where they are. */
struct ul_job {
    void (*run)(ul_job *job);     /* on a thread of the pool; may block */
    void (*dispose)(ul_job *job); /* frees an abandoned job and its memory; on any thread */
    ul_job *next;                 /* of the jobs that ul_port_take returns; otherwise the pool's, like the rest */
    ul_job *previous;
    ul_port *port;
    uint32_t state;
};

/* Returns NULL and a negative errno if there is no descriptor or no memory left. */
ul_port *ul_port_open(int *error);
/* The same with a pipe, for a port that is polled on an io_uring: an eventfd there wakes other descriptors late. */
ul_port *ul_port_open_pipe(int *error);
/* Closes the port.  Its queued and finished jobs are disposed of, its running jobs abandoned. */
void ul_port_close(ul_port *port);
/* Frees a port of the parent in a forked child, and closes the child's copy of its descriptor.  No job is touched. */
void ul_port_drop(ul_port *port);
/* Returns the descriptor that is readable while finished jobs wait.  It may be so a few times more in vain. */
int ul_port_fd(ul_port *port);

/* Queues a job.  A port's jobs begin in order, and ports take turns.  Returns 0.  Returns -EAGAIN if the system refuses
 * a thread, and no thread is left that is not stuck.  Returns -ESTALE in a child that was forked after the port's
 * opening.  On an error the job is still the caller's. */
int ul_port_submit(ul_port *port, ul_job *job);
/* Returns 1 if the job had not begun: it is the caller's again.  So are all jobs in a forked child.  Returns 0 if it
 * runs or has finished. */
int ul_port_withdraw(ul_port *port, ul_job *job);
/* Gives a job up.  It is disposed of when it returns, or at once if it does not run.  Meanwhile its thread counts as
 * stuck, and another thread takes its place.  Nothing happens to a job that is the caller's. */
void ul_port_abandon(ul_port *port, ul_job *job);
/* Says that a running job may never return.  It is still taken when it does.  Until then its thread counts as stuck,
 * and another thread takes its place.  Returns 0 if the job has not begun. */
int ul_port_detain(ul_port *port, ul_job *job);
/* Returns the finished jobs, linked by next, in the order in which they finished; NULL if there are none.  Makes the
 * descriptor unreadable. */
ul_job *ul_port_take(ul_port *port);
/* Returns whether finished jobs wait: one load from memory. */
int ul_port_ready(ul_port *port);
/* Returns the number of jobs that were submitted, and not yet taken, withdrawn or abandoned. */
uint32_t ul_port_unfinished(ul_port *port);

/* Allows threads_max threads, and stuck_max more in place of stuck ones.  0 threads: the default, 8 to 32 by the number
 * of CPUs.  Threads above the limit end as soon as they have no job. */
void ul_pool_limits(uint32_t threads_max, uint32_t stuck_max);
/* Ends threads that had no job for so long. */
void ul_pool_idle_limit(uint32_t idle_max_ms);

typedef struct {
    uint32_t threads; /* all, with the idle and the stuck ones */
    uint32_t idle;
    uint32_t stuck;  /* threads whose jobs were abandoned and have not returned */
    uint32_t queued; /* jobs that have not begun */
} ul_pool_counts;
void ul_pool_count(ul_pool_counts *counts);

#endif
