/* The pool: one lock, a queue for each port, threads that are made on demand and end when they are idle.
 *
 * Everything below `pool` and all fields of ports and jobs are under the one lock, except where a comment says
 * otherwise.  No job runs, no job is disposed of, and no descriptor is written to under the lock.
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
#define _GNU_SOURCE
#include "pool.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* For system calls and getaddrinfo(3), beside what the C library puts there. */
#define STACK_SIZE_BYTES (256 * 1024)
#define THREADS_MIN 8
#define THREADS_MAX 32
#define STUCK_MAX 32
#define IDLE_MAX_MS 5000
/* How long a refused thread is not asked for again while others are alive. */
#define REFUSED_NS 50000000
#define NS_PER_S 1000000000LL

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

static struct {
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
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .written = PTHREAD_COND_INITIALIZER,
          .stuck_max = STUCK_MAX,
          .idle_max_ms = IDLE_MAX_MS};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static size_t stack_size_bytes = STACK_SIZE_BYTES;

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

static void unlink_job(job_list *list, ul_job *job)
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

static ul_job *take_all(job_list *list)
{
    ul_job *jobs = list->first;
    __atomic_store_n(&list->first, NULL, __ATOMIC_RELAXED);
    list->last = NULL;
    return jobs;
}

static void enter_row(ul_port *port)
{
    port->next = NULL;
    port->previous = pool.last;
    if (pool.last != NULL)
        pool.last->next = port;
    else
        pool.first = port;
    pool.last = port;
}

static void leave_row(ul_port *port)
{
    if (port->previous != NULL)
        port->previous->next = port->next;
    else
        pool.first = port->next;
    if (port->next != NULL)
        port->next->previous = port->previous;
    else
        pool.last = port->previous;
}

static void enqueue(ul_port *port, ul_job *job)
{
    if (port->queued.first == NULL)
        enter_row(port);
    job->state = QUEUED;
    append(&port->queued, job);
    pool.queued++;
}

static void dequeue(ul_port *port, ul_job *job)
{
    unlink_job(&port->queued, job);
    if (port->queued.first == NULL)
        leave_row(port);
    pool.queued--;
}

static void lie_down(sleeper *self)
{
    self->woken = 0;
    self->previous = NULL;
    self->next = pool.idle;
    if (pool.idle != NULL)
        pool.idle->previous = self;
    pool.idle = self;
    pool.idle_count++;
}

static void get_up(sleeper *self)
{
    if (self->previous != NULL)
        self->previous->next = self->next;
    else
        pool.idle = self->next;
    if (self->next != NULL)
        self->next->previous = self->previous;
    pool.idle_count--;
}

/* Wakes a thread that summon() returned.  It may have come by itself, and its stack may be gone.  The kernel takes the
 * address for a key only, and each waiter on a futex looks again. */
static void wake(sleeper *woken)
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
    if (pool.threads_max == 0) {
        int count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) * 4 : THREADS_MIN;
        pool.threads_max = count < THREADS_MIN ? THREADS_MIN : count > THREADS_MAX ? THREADS_MAX : (uint32_t)count;
    }
    return pool.threads_max;
}

static uint32_t healthy(void) { return pool.threads - pool.stuck; }

static int may_make_thread(void) { return healthy() < threads_max() && pool.threads < threads_max() + pool.stuck_max; }

static void *work(void *unused);

/* Under the lock, so that no job is queued for a thread that is then refused. */
static int make_thread(void)
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
    pool.refused_ns = error != 0 ? now_ns() : 0;
    if (error != 0)
        return -EAGAIN;
    pool.threads++;
    pool.coming = 1;
    return 0;
}

/* Brings one more thread if jobs are queued.  Returns an idle one, to be woken without the lock, or NULL. */
static sleeper *summon(void)
{
    sleeper *woken = pool.idle;
    if (pool.queued == 0 || pool.coming)
        return NULL;
    if (woken != NULL) {
        get_up(woken);
        pool.coming = 1;
        __atomic_store_n(&woken->woken, 1, __ATOMIC_RELEASE);
    } else if (may_make_thread() && (pool.refused_ns == 0 || now_ns() - pool.refused_ns > REFUSED_NS)) {
        make_thread();
    }
    return woken;
}

static ul_job *begin_next(void)
{
    ul_port *port = pool.first;
    if (port == NULL)
        return NULL;
    ul_job *job = port->queued.first;
    dequeue(port, job);
    if (port->queued.first != NULL && pool.last != port) {
        leave_row(port);
        enter_row(port);
    }
    job->state = RUNNING;
    append(&port->running, job);
    return job;
}

/* Returns the port whose owner must be told, or NULL. */
static ul_port *end(ul_job *job)
{
    ul_port *port = job->port;
    if (job->state == ABANDONED) {
        pthread_mutex_unlock(&pool.lock);
        job->dispose(job);
        pthread_mutex_lock(&pool.lock);
        pool.stuck--;
        return NULL;
    }
    pool.stuck -= job->state == DETAINED;
    unlink_job(&port->running, job);
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
static void announce(ul_port *port)
{
    uint64_t one = 1;
    if (port == NULL)
        return;
    while (write(port->signal_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    if (__atomic_sub_fetch(&port->writers, 1, __ATOMIC_SEQ_CST) == 0 &&
        __atomic_load_n(&pool.closing, __ATOMIC_SEQ_CST) != 0) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.written);
        pthread_mutex_unlock(&pool.lock);
    }
}

static void *work(void *unused)
{
    sleeper self;
    ul_port *finished = NULL;
    (void)unused;
    pthread_setname_np(pthread_self(), "uringloop-pool");
    pthread_mutex_lock(&pool.lock);
    pool.coming = 0;
    while (healthy() <= threads_max()) {
        ul_job *job = begin_next();
        sleeper *helper = NULL;
        uint32_t idle_max_ms = pool.idle_max_ms;
        if (job != NULL)
            helper = summon();
        else
            lie_down(&self);
        pthread_mutex_unlock(&pool.lock);
        announce(finished);
        finished = NULL;
        if (job != NULL) {
            wake(helper);
            job->run(job);
            pthread_mutex_lock(&pool.lock);
            finished = end(job);
            continue;
        }
        sleep_until_woken(&self, idle_max_ms);
        pthread_mutex_lock(&pool.lock);
        if (!self.woken) {
            get_up(&self);
            break;
        }
        pool.coming = 0;
    }
    pool.threads--;
    pthread_mutex_unlock(&pool.lock);
    announce(finished);
    return NULL;
}

static void begin_in_child(void)
{
    static const pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_cond_t written = PTHREAD_COND_INITIALIZER;
    char *begin = (char *)&pool.first;
    memset(begin, 0, sizeof(pool) - (size_t)(begin - (char *)&pool));
    memcpy(&pool.lock, &lock, sizeof(lock));
    memcpy(&pool.written, &written, sizeof(written));
    pool.closing = 0;
    pool.generation++;
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

/* A sandbox may refuse eventfd2(2).  A pipe then holds one number for each write, and a read takes one of them. */
static int open_descriptors(ul_port *port)
{
    int ends[2];
    port->fd = port->signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (port->fd >= 0)
        return 0;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    port->fd = ends[0];
    port->signal_fd = ends[1];
    return 0;
}

ul_port *ul_port_open(int *error)
{
    pthread_once(&once, begin);
    ul_port *port = calloc(1, sizeof(*port));
    *error = port == NULL ? -ENOMEM : open_descriptors(port);
    if (*error < 0) {
        free(port);
        return NULL;
    }
    port->generation = pool.generation;
    return port;
}

static int is_stale(ul_port *port) { return port->generation != pool.generation; }

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
    unlink_job(&job->port->running, job);
    job->port = NULL;
    pool.stuck += job->state != DETAINED;
    job->state = ABANDONED;
}

void ul_port_close(ul_port *port)
{
    if (is_stale(port)) {
        ul_port_drop(port);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    for (ul_job *job = port->queued.first; job != NULL; job = job->next)
        pool.queued--;
    if (port->queued.first != NULL)
        leave_row(port);
    ul_job *queued = take_all(&port->queued), *finished = take_all(&port->finished);
    while (port->running.first != NULL)
        abandon_running(port->running.first);
    sleeper *woken = summon();
    __atomic_add_fetch(&pool.closing, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&port->writers, __ATOMIC_SEQ_CST) != 0)
        pthread_cond_wait(&pool.written, &pool.lock);
    __atomic_sub_fetch(&pool.closing, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&pool.lock);
    wake(woken);
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
    pthread_mutex_lock(&pool.lock);
    job->port = port;
    enqueue(port, job);
    if (healthy() == 0 && may_make_thread())
        result = make_thread();
    else
        woken = summon();
    if (result < 0) {
        dequeue(port, job);
        job->state = NEW;
    }
    pthread_mutex_unlock(&pool.lock);
    wake(woken);
    port->unfinished += result == 0;
    return result;
}

int ul_port_withdraw(ul_port *port, ul_job *job)
{
    if (is_stale(port))
        return 1;
    pthread_mutex_lock(&pool.lock);
    int is_queued = job->state == QUEUED;
    if (is_queued) {
        dequeue(port, job);
        job->state = NEW;
        port->unfinished--;
    }
    pthread_mutex_unlock(&pool.lock);
    return is_queued;
}

int ul_port_detain(ul_port *port, ul_job *job)
{
    if (is_stale(port))
        return 1;
    pthread_mutex_lock(&pool.lock);
    int runs = job->state == RUNNING, begun = job->state != QUEUED;
    pool.stuck += (uint32_t)runs;
    job->state = runs ? DETAINED : job->state;
    sleeper *woken = runs ? summon() : NULL;
    pthread_mutex_unlock(&pool.lock);
    wake(woken);
    return begun;
}

void ul_port_abandon(ul_port *port, ul_job *job)
{
    if (is_stale(port))
        return;
    pthread_mutex_lock(&pool.lock);
    int runs = job->state == RUNNING || job->state == DETAINED;
    if (runs) {
        abandon_running(job);
    } else if (job->state == QUEUED) {
        dequeue(port, job);
    } else {
        unlink_job(&port->finished, job);
    }
    sleeper *woken = runs ? summon() : NULL;
    pthread_mutex_unlock(&pool.lock);
    port->unfinished--;
    wake(woken);
    if (!runs)
        job->dispose(job);
}

ul_job *ul_port_take(ul_port *port)
{
    uint64_t count;
    if (is_stale(port) || __atomic_load_n(&port->announced, __ATOMIC_ACQUIRE) == port->drained)
        return NULL;
    /* First the descriptor: a job that finishes later announces itself, or is taken below. */
    if (read(port->fd, &count, sizeof(count)) == sizeof(count))
        port->drained += count;
    pthread_mutex_lock(&pool.lock);
    ul_job *jobs = take_all(&port->finished);
    pthread_mutex_unlock(&pool.lock);
    for (ul_job *job = jobs; job != NULL; job = job->next) {
        job->state = NEW;
        port->unfinished--;
    }
    return jobs;
}

int ul_port_ready(ul_port *port) { return __atomic_load_n(&port->finished.first, __ATOMIC_ACQUIRE) != NULL; }

uint32_t ul_port_unfinished(ul_port *port) { return port->unfinished; }

/* Has each idle thread look at the limits, and lie down again or end. */
static void rouse_idle(void)
{
    for (sleeper *woken; (woken = pool.idle) != NULL;) {
        get_up(woken);
        __atomic_store_n(&woken->woken, 1, __ATOMIC_RELEASE);
        wake(woken);
    }
}

void ul_pool_limits(uint32_t threads_max, uint32_t stuck_max)
{
    pthread_mutex_lock(&pool.lock);
    pool.threads_max = threads_max;
    pool.stuck_max = stuck_max;
    rouse_idle();
    summon();
    pthread_mutex_unlock(&pool.lock);
}

void ul_pool_idle_limit(uint32_t idle_max_ms)
{
    pthread_mutex_lock(&pool.lock);
    pool.idle_max_ms = idle_max_ms;
    rouse_idle();
    pthread_mutex_unlock(&pool.lock);
}

void ul_pool_count(ul_pool_counts *counts)
{
    pthread_mutex_lock(&pool.lock);
    *counts = (ul_pool_counts){pool.threads, pool.idle_count, pool.stuck, pool.queued};
    pthread_mutex_unlock(&pool.lock);
}
