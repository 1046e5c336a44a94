/* The threads: made on demand, asleep without a job, ended when they are idle for long; how many there may be. */
#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Beside what the C library puts there.  getaddrinfo(3) runs name services of other projects, written for 8 MiB. */
#define STACK_SIZE_BYTES (1024 * 1024)
#define THREADS_MIN 8
#define THREADS_MAX 32
#define STUCK_MAX 32
#define IDLE_MAX_MS 5000
/* How long a refused thread is not asked for again while others are alive. */
#define REFUSED_NS 50000000
#define NS_PER_S 1000000000LL

ul_pool_state ul_pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
                         .written = PTHREAD_COND_INITIALIZER,
                         .stuck_max = STUCK_MAX,
                         .idle_max_ms = IDLE_MAX_MS};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static size_t stack_size_bytes = STACK_SIZE_BYTES;

static void lie_down(sleeper *self)
{
    self->woken = 0;
    self->previous = NULL;
    self->next = ul_pool.idle;
    if (ul_pool.idle != NULL)
        ul_pool.idle->previous = self;
    ul_pool.idle = self;
    ul_pool.idle_count++;
}

static void get_up(sleeper *self)
{
    if (self->previous != NULL)
        self->previous->next = self->next;
    else
        ul_pool.idle = self->next;
    if (self->next != NULL)
        self->next->previous = self->previous;
    ul_pool.idle_count--;
}

/* Wakes a thread that ul_thread_summon() returned.  It may have come by itself, and its stack may be gone.  The kernel
 * takes the address for a key only, and each waiter on a futex looks again. */
void ul_thread_wake(sleeper *woken)
{
    if (woken != NULL)
        syscall(SYS_futex, &woken->woken, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void sleep_until_woken(sleeper *self, uint32_t idle_max_ms)
{
    /* The kernel's, which is two longs for this call on each machine. */
    struct {
        long s, ns;
    } timeout = {idle_max_ms / 1000, idle_max_ms % 1000 * 1000000L};
    while (!__atomic_load_n(&self->woken, __ATOMIC_ACQUIRE)) {
        if (syscall(SYS_futex, &self->woken, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0) < 0 && errno == ETIMEDOUT)
            return;
    }
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static uint32_t threads_max(void)
{
    cpu_set_t cpus;
    if (ul_pool.threads_max == 0) {
        int count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) * 4 : THREADS_MIN;
        ul_pool.threads_max = count < THREADS_MIN ? THREADS_MIN : count > THREADS_MAX ? THREADS_MAX : (uint32_t)count;
    }
    return ul_pool.threads_max;
}

uint32_t ul_threads_healthy(void) { return ul_pool.threads - ul_pool.stuck; }

int ul_thread_may_be_made(void)
{
    return ul_threads_healthy() < threads_max() && ul_pool.threads < threads_max() + ul_pool.stuck_max;
}

static void *work(void *unused);

/* Under the lock, so that no job is queued for a thread that is then refused. */
int ul_thread_make(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
        sigdelset(&blocked, faults[i]);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_size_bytes);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int error = pthread_create(&thread, &attributes, work, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    ul_pool.refused_ns = error != 0 ? now_ns() : 0;
    if (error != 0)
        return -EAGAIN;
    ul_pool.threads++;
    ul_pool.coming = 1;
    return 0;
}

/* Brings one more thread if jobs are queued.  Returns an idle one, to be woken without the lock, or NULL. */
sleeper *ul_thread_summon(void)
{
    sleeper *woken = ul_pool.idle;
    if (ul_pool.queued == 0 || ul_pool.coming)
        return NULL;
    if (woken != NULL) {
        get_up(woken);
        ul_pool.coming = 1;
        __atomic_store_n(&woken->woken, 1, __ATOMIC_RELEASE);
    } else if (ul_thread_may_be_made() && (ul_pool.refused_ns == 0 || now_ns() - ul_pool.refused_ns > REFUSED_NS)) {
        ul_thread_make();
    }
    return woken;
}

static void *work(void *unused)
{
    sleeper self;
    ul_port *finished = NULL;
    (void)unused;
    pthread_setname_np(pthread_self(), "uringloop-pool");
    pthread_mutex_lock(&ul_pool.lock);
    ul_pool.coming = 0;
    while (ul_threads_healthy() <= threads_max()) {
        ul_job *job = ul_job_begin_next();
        sleeper *helper = NULL;
        uint32_t idle_max_ms = ul_pool.idle_max_ms;
        if (job != NULL)
            helper = ul_thread_summon();
        else
            lie_down(&self);
        pthread_mutex_unlock(&ul_pool.lock);
        ul_port_announce(finished);
        finished = NULL;
        if (job != NULL) {
            ul_thread_wake(helper);
            job->run(job);
            pthread_mutex_lock(&ul_pool.lock);
            finished = ul_job_end(job);
            continue;
        }
        sleep_until_woken(&self, idle_max_ms);
        pthread_mutex_lock(&ul_pool.lock);
        if (!self.woken) {
            get_up(&self);
            break;
        }
        ul_pool.coming = 0;
    }
    ul_pool.threads--;
    pthread_mutex_unlock(&ul_pool.lock);
    ul_port_announce(finished);
    return NULL;
}

static void begin_in_child(void)
{
    static const pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_cond_t written = PTHREAD_COND_INITIALIZER;
    char *begin = (char *)&ul_pool.first;
    memset(begin, 0, sizeof(ul_pool) - (size_t)(begin - (char *)&ul_pool));
    memcpy(&ul_pool.lock, &lock, sizeof(lock));
    memcpy(&ul_pool.written, &written, sizeof(written));
    ul_pool.closing = 0;
    ul_pool.generation++;
}

static void begin(void)
{
    /* glibc takes thread-local variables of all libraries out of a thread's stack. */
    size_t (*stack_min)(const pthread_attr_t *);
    *(void **)&stack_min = dlsym(RTLD_DEFAULT, "__pthread_get_minstack");
    pthread_attr_t attributes;
    if (stack_min != NULL && pthread_attr_init(&attributes) == 0) {
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        stack_size_bytes += (stack_min(&attributes) + page - 1) / page * page;
        pthread_attr_destroy(&attributes);
    }
    pthread_atfork(NULL, NULL, begin_in_child);
}

void ul_pool_begin(void) { pthread_once(&once, begin); }

/* Has each idle thread look at the limits, and lie down again or end. */
static void rouse_idle(void)
{
    for (sleeper *woken; (woken = ul_pool.idle) != NULL;) {
        get_up(woken);
        __atomic_store_n(&woken->woken, 1, __ATOMIC_RELEASE);
        ul_thread_wake(woken);
    }
}

void ul_pool_limits(uint32_t threads_max, uint32_t stuck_max)
{
    pthread_mutex_lock(&ul_pool.lock);
    ul_pool.threads_max = threads_max;
    ul_pool.stuck_max = stuck_max;
    rouse_idle();
    ul_thread_summon();
    pthread_mutex_unlock(&ul_pool.lock);
}

void ul_pool_idle_limit(uint32_t idle_max_ms)
{
    pthread_mutex_lock(&ul_pool.lock);
    ul_pool.idle_max_ms = idle_max_ms;
    rouse_idle();
    pthread_mutex_unlock(&ul_pool.lock);
}

void ul_pool_count(ul_pool_counts *counts)
{
    pthread_mutex_lock(&ul_pool.lock);
    *counts = (ul_pool_counts){ul_pool.threads, ul_pool.idle_count, ul_pool.stuck, ul_pool.queued};
    pthread_mutex_unlock(&ul_pool.lock);
}
