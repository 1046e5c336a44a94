/* Several owners submit, withdraw, abandon and take at random, and close ports with jobs in each state.
 *
 * Each job must be run at most once and be freed exactly once.  Sanitizers see the rest.  Takes a seed and the rounds
 * of each owner.
 */
#define _GNU_SOURCE
#include "pool/pool.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define OWNERS 4
#define JOBS 24

typedef struct {
    ul_job job;
    ul_port *port;
    int slow;
    int runs; /* atomic */
} test_job;

typedef struct {
    unsigned seed;
    int rounds;
    ul_port *port;
    test_job *jobs[JOBS];
} owner;

static int alive, taken, withdrawn, abandoned, disposed;

static void count(int *counter, int by) { __atomic_add_fetch(counter, by, __ATOMIC_RELAXED); }

static void check(int holds, const char *text)
{
    if (holds)
        return;
    fprintf(stderr, "failed: %s\n", text);
    abort();
}

static void nap(long ns) { nanosleep(&(struct timespec){0, ns}, NULL); }

static void run(ul_job *job)
{
    test_job *mine = (test_job *)job;
    check(__atomic_add_fetch(&mine->runs, 1, __ATOMIC_RELAXED) == 1, "a job runs once");
    if (mine->slow)
        nap(mine->slow * 20000);
}

static void release(test_job *job)
{
    count(&alive, -1);
    free(job);
}

static void dispose(ul_job *job)
{
    count(&disposed, 1);
    release((test_job *)job);
}

static test_job *make(owner *self)
{
    test_job *job = calloc(1, sizeof(*job));
    check(job != NULL, "there is memory");
    *job = (test_job){.job = {.run = run, .dispose = dispose}, .port = self->port, .slow = rand_r(&self->seed) % 4};
    count(&alive, 1);
    return job;
}

static ul_port *open_port(void)
{
    int error;
    ul_port *port = ul_port_open(&error);
    check(port != NULL, "a port opens");
    return port;
}

static void take(owner *self)
{
    ul_job *next;
    for (ul_job *job = ul_port_take(self->port); job != NULL; job = next) {
        next = job->next;
        test_job *mine = (test_job *)job;
        check(mine->port == self->port, "a job comes back to its port");
        check(mine->runs == 1, "a job that is taken was run");
        for (int i = 0; i < JOBS; i++)
            if (self->jobs[i] == mine)
                self->jobs[i] = NULL;
        count(&taken, 1);
        release(mine);
    }
}

static void give_up(owner *self, int i)
{
    test_job *job = self->jobs[i];
    if (rand_r(&self->seed) % 2 && ul_port_withdraw(self->port, &job->job)) {
        check(job->runs == 0, "a withdrawn job was not run");
        count(&withdrawn, 1);
        release(job);
    } else {
        count(&abandoned, 1);
        ul_port_abandon(self->port, &job->job);
    }
    self->jobs[i] = NULL;
}

static uint32_t held(owner *self)
{
    uint32_t jobs = 0;
    for (int i = 0; i < JOBS; i++)
        jobs += self->jobs[i] != NULL;
    return jobs;
}

static void wait_and_take(owner *self)
{
    while (ul_port_unfinished(self->port) != 0) {
        struct pollfd readable = {ul_port_fd(self->port), POLLIN, 0};
        check(poll(&readable, 1, 20000) == 1, "a finished job makes the port readable");
        take(self);
    }
}

static void *own(void *argument)
{
    owner *self = argument;
    self->port = open_port();
    for (int round = 0; round < self->rounds; round++) {
        for (int i = 0; i < JOBS; i++) {
            int dice = rand_r(&self->seed) % 8;
            if (self->jobs[i] == NULL && dice < 6) {
                self->jobs[i] = make(self);
                check(ul_port_submit(self->port, &self->jobs[i]->job) == 0, "a job is queued");
            } else if (self->jobs[i] != NULL && dice == 6) {
                give_up(self, i);
            } else if (dice == 7 && ul_port_ready(self->port)) {
                take(self);
            }
        }
        check(ul_port_unfinished(self->port) == held(self), "unfinished jobs are counted");
        if (round % 8 == 3)
            wait_and_take(self);
        if (round % 8 == 7) {
            ul_port_close(self->port);
            for (int i = 0; i < JOBS; i++)
                self->jobs[i] = NULL;
            self->port = open_port();
        }
    }
    wait_and_take(self);
    ul_port_close(self->port);
    return NULL;
}

int main(int argc, char **argv)
{
    owner owners[OWNERS] = {0};
    pthread_t threads[OWNERS];
    ul_pool_counts counts;
    check(argc == 3, "usage: stress SEED ROUNDS");
    ul_pool_limits(3, 2);
    ul_pool_idle_limit(1);
    for (int i = 0; i < OWNERS; i++) {
        owners[i].seed = (unsigned)(atoi(argv[1]) * OWNERS + i);
        owners[i].rounds = atoi(argv[2]);
        check(pthread_create(&threads[i], NULL, own, &owners[i]) == 0, "a thread starts");
    }
    for (int i = 0; i < OWNERS; i++)
        pthread_join(threads[i], NULL);
    do {
        nap(1000000);
        ul_pool_count(&counts);
    } while (counts.threads != 0);
    check(counts.idle + counts.stuck + counts.queued == 0, "an empty pool counts nothing");
    check(__atomic_load_n(&alive, __ATOMIC_RELAXED) == 0, "each job is freed");
    printf("taken %d, withdrawn %d, abandoned %d, disposed of %d\n", taken, withdrawn, abandoned, disposed);
    return 0;
}
