/* The queue of each port, the row of ports, and a job's way from one list to the next. */
#include "internal.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

static void append(job_list *list, ul_job *job)
{
    job->next = NULL;
    job->previous = list->last;
    if (list->last != NULL)
        list->last->next = job;
    else
        __atomic_store_n(&list->first, job, __ATOMIC_RELEASE);
    list->last = job;
}

void ul_jobs_unlink(job_list *list, ul_job *job)
{
    if (job->previous != NULL)
        job->previous->next = job->next;
    else
        __atomic_store_n(&list->first, job->next, __ATOMIC_RELAXED);
    if (job->next != NULL)
        job->next->previous = job->previous;
    else
        list->last = job->previous;
}

ul_job *ul_jobs_take_all(job_list *list)
{
    ul_job *jobs = list->first;
    __atomic_store_n(&list->first, NULL, __ATOMIC_RELAXED);
    list->last = NULL;
    return jobs;
}

static void enter_row(ul_port *port)
{
    port->next = NULL;
    port->previous = ul_pool.last;
    if (ul_pool.last != NULL)
        ul_pool.last->next = port;
    else
        ul_pool.first = port;
    ul_pool.last = port;
}

void ul_port_leave_row(ul_port *port)
{
    if (port->previous != NULL)
        port->previous->next = port->next;
    else
        ul_pool.first = port->next;
    if (port->next != NULL)
        port->next->previous = port->previous;
    else
        ul_pool.last = port->previous;
}

void ul_job_enqueue(ul_port *port, ul_job *job)
{
    if (port->queued.first == NULL)
        enter_row(port);
    job->state = QUEUED;
    append(&port->queued, job);
    ul_pool.queued++;
}

void ul_job_dequeue(ul_port *port, ul_job *job)
{
    ul_jobs_unlink(&port->queued, job);
    if (port->queued.first == NULL)
        ul_port_leave_row(port);
    ul_pool.queued--;
}

ul_job *ul_job_begin_next(void)
{
    ul_port *port = ul_pool.first;
    if (port == NULL)
        return NULL;
    ul_job *job = port->queued.first;
    ul_job_dequeue(port, job);
    if (port->queued.first != NULL && ul_pool.last != port) {
        ul_port_leave_row(port);
        enter_row(port);
    }
    job->state = RUNNING;
    append(&port->running, job);
    return job;
}

/* Returns the port whose owner must be told, or NULL. */
ul_port *ul_job_end(ul_job *job)
{
    ul_port *port = job->port;
    if (job->state == ABANDONED) {
        pthread_mutex_unlock(&ul_pool.lock);
        job->dispose(job);
        pthread_mutex_lock(&ul_pool.lock);
        ul_pool.stuck--;
        return NULL;
    }
    ul_pool.stuck -= job->state == DETAINED;
    ul_jobs_unlink(&port->running, job);
    job->state = FINISHED;
    int was_empty = port->finished.first == NULL;
    if (was_empty) {
        __atomic_fetch_add(&port->writers, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&port->announced, port->announced + 1, __ATOMIC_RELEASE);
    }
    append(&port->finished, job);
    return was_empty ? port : NULL;
}

/* The owner that closes the port waits until no thread is in here: the number of signal_fd may be another file's
 * afterwards. */
void ul_port_announce(ul_port *port)
{
    uint64_t one = 1;
    if (port == NULL)
        return;
    while (write(port->signal_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    if (__atomic_sub_fetch(&port->writers, 1, __ATOMIC_SEQ_CST) == 0 &&
        __atomic_load_n(&ul_pool.closing, __ATOMIC_SEQ_CST) != 0) {
        pthread_mutex_lock(&ul_pool.lock);
        pthread_cond_broadcast(&ul_pool.written);
        pthread_mutex_unlock(&ul_pool.lock);
    }
}
