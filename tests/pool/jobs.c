/* Jobs that a test holds as long as it likes, and that say where they ran. */
#define _GNU_SOURCE
#include "pool/pool.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct {
    ul_job job;
    int number;
    int begun, gate; /* eventfds, or -1: written when the job begins, read before it returns */
    int turn;        /* how many jobs had begun before */
    int thread;
    char name[16];
    uint64_t signals_blocked;
} held_job;

static int alive, disposed, turns;

static void touch(int fd, int reads)
{
    uint64_t one = 1;
    while (fd >= 0 && (reads ? read(fd, &one, sizeof(one)) : write(fd, &one, sizeof(one))) < 0 && errno == EINTR)
        ;
}

static void hold(ul_job *job)
{
    held_job *held = (held_job *)job;
    held->turn = __atomic_fetch_add(&turns, 1, __ATOMIC_SEQ_CST);
    held->thread = (int)syscall(SYS_gettid);
    pthread_getname_np(pthread_self(), held->name, sizeof(held->name));
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &held->signals_blocked, sizeof(held->signals_blocked));
    touch(held->begun, 0);
    touch(held->gate, 1);
}

static void look_up(ul_job *job)
{
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", "80", NULL, &found) == 0)
        freeaddrinfo(found);
    hold(job);
}

void job_free(held_job *held)
{
    __atomic_sub_fetch(&alive, 1, __ATOMIC_SEQ_CST);
    free(held);
}

static void dispose(ul_job *job)
{
    job_free((held_job *)job);
    __atomic_add_fetch(&disposed, 1, __ATOMIC_SEQ_CST);
}

held_job *job_make(int number, int begun, int gate, int looks_up)
{
    held_job *held = calloc(1, sizeof(*held));
    if (held == NULL)
        abort();
    held->job.run = looks_up ? look_up : hold;
    held->job.dispose = dispose;
    held->number = number;
    held->begun = begun;
    held->gate = gate;
    __atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST);
    return held;
}

int job_number(held_job *held) { return held->number; }
int job_turn(held_job *held) { return held->turn; }
int job_thread(held_job *held) { return held->thread; }
const char *job_thread_name(held_job *held) { return held->name; }
uint64_t job_signals_blocked(held_job *held) { return held->signals_blocked; }
int jobs_alive(void) { return __atomic_load_n(&alive, __ATOMIC_SEQ_CST); }
int jobs_disposed(void) { return __atomic_load_n(&disposed, __ATOMIC_SEQ_CST); }
