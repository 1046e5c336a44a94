/* Ports: how a loop hands jobs to the pool, and gets them back. */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* So many numbers of a pipe are read at once.  There is seldom more than one. */
#define READ_MAX 8

/* A sandbox may refuse eventfd2(2).  A pipe then holds one number for each write. */
static int open_descriptors(ul_port *port, int with_pipe)
{
    int ends[2];
    port->fd = port->signal_fd = with_pipe ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (port->fd >= 0)
        return 0;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    port->fd = ends[0];
    port->signal_fd = ends[1];
    return 0;
}

static ul_port *open_port(int *error, int with_pipe)
{
    ul_pool_begin();
    ul_port *port = calloc(1, sizeof(*port));
    *error = port == NULL ? -ENOMEM : open_descriptors(port, with_pipe);
    if (*error < 0) {
        free(port);
        return NULL;
    }
    port->generation = ul_pool.generation;
    return port;
}

ul_port *ul_port_open(int *error) { return open_port(error, 0); }

ul_port *ul_port_open_pipe(int *error) { return open_port(error, 1); }

static int is_stale(ul_port *port) { return port->generation != ul_pool.generation; }

void ul_port_drop(ul_port *port)
{
    close(port->fd);
    if (port->signal_fd != port->fd)
        close(port->signal_fd);
    free(port);
}

static void dispose_all(ul_job *job)
{
    while (job != NULL) {
        ul_job *next = job->next;
        job->dispose(job);
        job = next;
    }
}

static void abandon_running(ul_job *job)
{
    ul_jobs_unlink(&job->port->running, job);
    job->port = NULL;
    ul_pool.stuck += job->state != DETAINED;
    job->state = ABANDONED;
}

void ul_port_close(ul_port *port)
{
    if (is_stale(port)) {
        ul_port_drop(port);
        return;
    }
    pthread_mutex_lock(&ul_pool.lock);
    for (ul_job *job = port->queued.first; job != NULL; job = job->next)
        ul_pool.queued--;
    if (port->queued.first != NULL)
        ul_port_leave_row(port);
    ul_job *queued = ul_jobs_take_all(&port->queued), *finished = ul_jobs_take_all(&port->finished);
    while (port->running.first != NULL)
        abandon_running(port->running.first);
    sleeper *woken = ul_thread_summon();
    __atomic_add_fetch(&ul_pool.closing, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&port->writers, __ATOMIC_SEQ_CST) != 0)
        pthread_cond_wait(&ul_pool.written, &ul_pool.lock);
    __atomic_sub_fetch(&ul_pool.closing, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&ul_pool.lock);
    ul_thread_wake(woken);
    dispose_all(finished);
    dispose_all(queued);
    ul_port_drop(port);
}

int ul_port_fd(ul_port *port) { return port->fd; }

int ul_port_submit(ul_port *port, ul_job *job)
{
    if (is_stale(port))
        return -ESTALE;
    int result = 0;
    sleeper *woken = NULL;
    pthread_mutex_lock(&ul_pool.lock);
    job->port = port;
    ul_job_enqueue(port, job);
    if (ul_threads_healthy() == 0 && ul_thread_may_be_made())
        result = ul_thread_make();
    else
        woken = ul_thread_summon();
    if (result < 0) {
        ul_job_dequeue(port, job);
        job->state = NEW;
    }
    pthread_mutex_unlock(&ul_pool.lock);
    ul_thread_wake(woken);
    port->unfinished += result == 0;
    return result;
}

int ul_port_withdraw(ul_port *port, ul_job *job)
{
    if (is_stale(port))
        return 1;
    pthread_mutex_lock(&ul_pool.lock);
    int is_queued = job->state == QUEUED;
    if (is_queued) {
        ul_job_dequeue(port, job);
        job->state = NEW;
        port->unfinished--;
    }
    pthread_mutex_unlock(&ul_pool.lock);
    return is_queued;
}

int ul_port_detain(ul_port *port, ul_job *job)
{
    if (is_stale(port))
        return 1;
    pthread_mutex_lock(&ul_pool.lock);
    int runs = job->state == RUNNING, begun = job->state != QUEUED;
    ul_pool.stuck += (uint32_t)runs;
    job->state = runs ? DETAINED : job->state;
    sleeper *woken = runs ? ul_thread_summon() : NULL;
    pthread_mutex_unlock(&ul_pool.lock);
    ul_thread_wake(woken);
    return begun;
}

void ul_port_abandon(ul_port *port, ul_job *job)
{
    if (is_stale(port))
        return;
    pthread_mutex_lock(&ul_pool.lock);
    int runs = job->state == RUNNING || job->state == DETAINED;
    if (runs) {
        abandon_running(job);
    } else if (job->state == QUEUED) {
        ul_job_dequeue(port, job);
    } else if (job->state == FINISHED) {
        ul_jobs_unlink(&port->finished, job);
    } else {
        pthread_mutex_unlock(&ul_pool.lock);
        return;
    }
    sleeper *woken = runs ? ul_thread_summon() : NULL;
    pthread_mutex_unlock(&ul_pool.lock);
    port->unfinished--;
    ul_thread_wake(woken);
    if (!runs)
        job->dispose(job);
}

ul_job *ul_port_take(ul_port *port)
{
    uint64_t counts[READ_MAX];
    if (is_stale(port) || __atomic_load_n(&port->announced, __ATOMIC_ACQUIRE) == port->drained)
        return NULL;
    /* First the descriptor: a job that finishes later announces itself, or is taken below. */
    ssize_t size_bytes = read(port->fd, counts, sizeof(counts));
    for (ssize_t i = 0; i < size_bytes / (ssize_t)sizeof(*counts); i++)
        port->drained += counts[i];
    pthread_mutex_lock(&ul_pool.lock);
    ul_job *jobs = ul_jobs_take_all(&port->finished);
    pthread_mutex_unlock(&ul_pool.lock);
    for (ul_job *job = jobs; job != NULL; job = job->next) {
        job->state = NEW;
        port->unfinished--;
    }
    return jobs;
}

int ul_port_ready(ul_port *port) { return __atomic_load_n(&port->finished.first, __ATOMIC_ACQUIRE) != NULL; }

uint32_t ul_port_unfinished(ul_port *port) { return port->unfinished; }
