/* The start of a child: the child's half.
 *
 * The child runs beside its parent, on the same memory (spawn.c tells why), with the thread-local storage of the thread
 * that started it.  So it must not touch errno, and calls the kernel only, not libc.  On a machine for which the system
 * call instruction is not written out below, the parent waits for exec, and the child may use libc's.
 *
 * The child closes the descriptors that the program does not inherit before each step that may take long, above all
 * execve.  If a descriptor is part of a path, as in /proc/self/fd/7, the child uses the path first.
 */
#include "spawn_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define LAST_SIGNAL 64
#define FIRST_INTERNAL_SIGNAL 32 /* libc's own: it neither lets them be changed nor sends them to other processes */
#define LAST_INTERNAL_SIGNAL 33
/* A busy program is tried again after 1 ms, 2 ms and so on: 127 ms in all. */
#define BUSY_PAUSE_NS (1000L * 1000)
#define BUSY_PAUSE_MAX_NS (64L * 1000 * 1000)
/* Also has close_range give the child a table of its own. */
#define UNSHARE (1U << 1)

extern char **environ;

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
static long call(long number, long a, long b, long c, long d)
{
    long result = syscall(number, a, b, c, d);
    return result < 0 ? -errno : result;
}
#endif

struct kernel_timespec {
    long seconds, nanoseconds;
};

#if CHILD_RUNS_BESIDE
/* As the kernel has it on these architectures; libc's differs. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static void set_default(int signum, int also_ignored)
{
    struct kernel_sigaction action;
    if (call(SYS_rt_sigaction, signum, 0, (long)&action, sizeof(action.mask)) < 0)
        return;
    if (action.handler == SIG_DFL || (action.handler == SIG_IGN && !also_ignored))
        return;
    action.handler = SIG_DFL;
    action.flags = 0;
    call(SYS_rt_sigaction, signum, (long)&action, 0, sizeof(action.mask));
}
#else
static void set_default(int signum, int also_ignored)
{
    struct sigaction action;
    if (sigaction(signum, NULL, &action) == 0 && (action.sa_handler != SIG_IGN || also_ignored)) {
        action.sa_handler = SIG_DFL;
        action.sa_flags = 0;
        sigaction(signum, &action, NULL);
    }
}
#endif

/* Back from the blocked signals of ul_spawn_start. */
static void release_signals(ul_spawn *spawn)
{
    for (int signum = 1; signum <= LAST_SIGNAL; signum++)
        if (signum < FIRST_INTERNAL_SIGNAL || signum > LAST_INTERNAL_SIGNAL)
            set_default(signum, 0);
    call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&spawn->signal_mask, 0, sizeof(spawn->signal_mask));
}

/* A duplicate above what the next ones are moved to. */
static long move_away(int32_t *fd, int below)
{
    if (*fd < 0 || *fd >= below)
        return 0;
    long copy = call(SYS_fcntl, *fd, F_DUPFD_CLOEXEC, 3, 0);
    *fd = (int32_t)copy;
    return copy < 0 ? copy : 0;
}

static long move_to(int32_t fd, int target)
{
    if (fd < 0)
        return 0;
    if (fd == target)
        return call(SYS_fcntl, fd, F_SETFD, 0, 0);
    return call(SYS_dup3, fd, target, 0, 0);
}

static long connect_descriptors(ul_spawn *spawn)
{
    ul_spawn_plan *plan = &spawn->plan;
    long error = 0;
    for (int32_t i = 0; i < plan->kept_count && error >= 0; i++)
        error = move_to(spawn->sources[i], spawn->kept[i]);
    if (error >= 0)
        error = move_away(&plan->output, 1);
    if (error >= 0)
        error = move_away(&plan->error, 2);
    if (error >= 0)
        error = move_to(plan->input, 0);
    if (error >= 0)
        error = move_to(plan->output, 1);
    if (error >= 0)
        error = move_to(plan->error, 2);
    return error;
}

static int is_needed(const ul_spawn *spawn, int32_t fd)
{
    for (int32_t i = 0; i < spawn->needed_count; i++)
        if (spawn->needed[i] == fd)
            return 1;
    return fd < 3;
}

/* Closes a descriptor that the program does not inherit. */
static void close_unless_inherited(const ul_spawn *spawn, int32_t fd)
{
    if (is_needed(spawn, fd))
        return;
    if (!spawn->plan.close_others && !(call(SYS_fcntl, fd, F_GETFD, 0, 0) & FD_CLOEXEC))
        return;
    call(SYS_close, fd, 0, 0, 0);
}

/* As getdents64(2) writes it. */
struct directory_entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

static int32_t parse_number(const char *digits)
{
    int32_t number = 0;
    for (; *digits >= '0' && *digits <= '9'; digits++)
        number = number * 10 + (*digits - '0');
    return *digits == '\0' ? number : -1;
}

/* One by one, as the process file system lists them, or all that there may be where it is not mounted. */
static void close_each(const ul_spawn *spawn)
{
    _Alignas(struct directory_entry) char entries[2048];
    long size, folder = call(SYS_openat, AT_FDCWD, (long)"/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (folder < 0) {
        for (uint32_t fd = 3; fd < spawn->descriptor_max; fd++)
            close_unless_inherited(spawn, (int32_t)fd);
        return;
    }
    while ((size = call(SYS_getdents64, folder, (long)entries, sizeof(entries), 0)) > 0)
        for (long i = 0; i < size;) {
            const struct directory_entry *entry = (const struct directory_entry *)(entries + i);
            int32_t fd = parse_number(entry->name);
            if (fd != folder)
                close_unless_inherited(spawn, fd);
            i += entry->size;
        }
    call(SYS_close, folder, 0, 0, 0);
}

static long close_between(const ul_spawn *spawn)
{
    uint32_t first = 3;
    for (int32_t i = 0; i < spawn->needed_count; i++) {
        uint32_t needed = (uint32_t)spawn->needed[i];
        if (needed < first)
            continue;
        long error = needed > first ? call(SYS_close_range, first, needed - 1, 0, 0) : 0;
        if (error < 0)
            return error;
        first = needed + 1;
    }
    return call(SYS_close_range, first, UINT32_MAX, 0, 0);
}

static void close_the_rest(const ul_spawn *spawn)
{
    /* Before 5.9, and with a seccomp filter that does not know it, there is no close_range. */
    if (!spawn->plan.close_others || close_between(spawn) < 0)
        close_each(spawn);
}

/* From the table of the parent to one of its own: a copy up to the last descriptor that it needs, then less. */
static long leave_table(const ul_spawn *spawn)
{
    uint32_t last = (uint32_t)spawn->needed[spawn->needed_count - 1];
    long error = call(SYS_close_range, last + 1, UINT32_MAX, UNSHARE, 0);
    return error < 0 ? error : close_between(spawn);
}

static long change_identity(ul_spawn *spawn)
{
    ul_spawn_plan *plan = &spawn->plan;
    long error = 0;
    if (plan->new_session)
        error = call(SYS_setsid, 0, 0, 0, 0);
    if (error >= 0 && plan->process_group >= 0)
        error = call(SYS_setpgid, 0, plan->process_group, 0, 0);
    if (error >= 0 && plan->group_count >= 0)
        error = call(SYS_setgroups, plan->group_count, (long)spawn->groups, 0, 0);
    if (error >= 0 && plan->gid >= 0)
        error = call(SYS_setregid, (uint32_t)plan->gid, (uint32_t)plan->gid, 0, 0);
    if (error >= 0 && plan->uid >= 0)
        error = call(SYS_setreuid, (uint32_t)plan->uid, (uint32_t)plan->uid, 0, 0);
    return error;
}

/* Another child of this process, or of another, may hold the program open for writing for a moment. */
static long execute_when_free(ul_spawn *spawn, const char *program)
{
    struct kernel_timespec pause = {0, BUSY_PAUSE_NS};
    for (;;) {
        long error = call(SYS_execve, (long)program, (long)spawn->arguments, (long)spawn->environment, 0);
        if (error != -ETXTBSY || pause.nanoseconds > BUSY_PAUSE_MAX_NS)
            return error;
        call(SYS_nanosleep, (long)&pause, 0, 0, 0);
        pause.nanoseconds *= 2;
    }
}

/* As execvp(3): the first error that says more than that the program is not there. */
static long execute(ul_spawn *spawn)
{
    long first = 0, last = 0;
    for (char **program = spawn->programs; *program != NULL; program++) {
        last = execute_when_free(spawn, *program);
        if (first == 0 && last != -ENOENT && last != -ENOTDIR)
            first = last;
    }
    return first != 0 ? first : last;
}

static long change_directory(ul_spawn *spawn, int32_t *stage)
{
    if (spawn->directory == NULL)
        return 0;
    *stage = UL_SPAWN_DIRECTORY;
    long error = call(SYS_chdir, (long)spawn->directory, 0, 0, 0);
    spawn->directory = NULL;
    if (error >= 0)
        *stage = UL_SPAWN_PREPARING;
    return error;
}

/* All that is left when the descriptors are connected. */
static long prepare_rest(ul_spawn *spawn, int32_t *stage)
{
    long error = change_directory(spawn, stage);
    if (error < 0)
        return error;
    if (spawn->plan.umask >= 0)
        call(SYS_umask, spawn->plan.umask, 0, 0, 0);
    if (spawn->plan.restore_signals) {
        /* Those that Python ignores. */
        set_default(SIGPIPE, 1);
        set_default(SIGXFSZ, 1);
    }
    if (spawn->signals_blocked)
        release_signals(spawn);
    return change_identity(spawn);
}

static void report(ul_spawn *spawn, int32_t stage, long error)
{
    ul_spawn_report report = {stage, (int32_t)-error};
    long written = call(SYS_write, spawn->plan.report, (long)&report, sizeof(report), 0);
    if (written == -EPIPE) {
        /* The parent is gone.  SIGPIPE, which is blocked, would end this process later. */
        const uint64_t broken = (uint64_t)1 << (SIGPIPE - 1);
        const struct kernel_timespec now = {0, 0};
        call(SYS_rt_sigtimedwait, (long)&broken, 0, (long)&now, sizeof(broken));
    }
}

static void fail(ul_spawn *spawn, int32_t stage, long error)
{
    report(spawn, stage, error);
    call(SYS_exit_group, 255, 0, 0, 0);
}

/* As long as it has the parent's table, it leaves it alone. */
static long take_descriptors(ul_spawn *spawn, int32_t *stage)
{
    if (spawn->shares_descriptors) {
        long error = leave_table(spawn);
        if (error < 0)
            return error;
        report(spawn, UL_SPAWN_CLOSED, 0);
        return connect_descriptors(spawn);
    }
    long error = connect_descriptors(spawn);
    if (error >= 0 && spawn->directory_needs_descriptors)
        error = change_directory(spawn, stage);
    if (error >= 0 && !spawn->program_needs_descriptors)
        close_the_rest(spawn);
    return error;
}

int ul_spawn_child(void *argument)
{
    ul_spawn *spawn = argument;
    int32_t stage = UL_SPAWN_PREPARING;
    long error = take_descriptors(spawn, &stage);
    if (error >= 0)
        error = prepare_rest(spawn, &stage);
    if (error < 0)
        fail(spawn, stage, error);
    fail(spawn, UL_SPAWN_PROGRAM, execute(spawn));
    return 0;
}

/* The first half of the steps, in a child that was forked already; it fails as they do.  The descriptors stay: the code
 * between the halves may use them. */
void ul_spawn_prepare_here(ul_spawn *spawn)
{
    int32_t stage = UL_SPAWN_PREPARING;
    long error = connect_descriptors(spawn);
    if (error >= 0)
        error = prepare_rest(spawn, &stage);
    if (error < 0)
        fail(spawn, stage, error);
}

/* The second half.  Does not come back.  What came between may have changed the environment. */
void ul_spawn_run_here(ul_spawn *spawn)
{
    if (spawn->plan.close_others)
        close_the_rest(spawn);
    if (spawn->plan.environment == NULL)
        spawn->environment = environ;
    fail(spawn, UL_SPAWN_PROGRAM, execute(spawn));
}

/* What was to be done between the halves has failed.  Does not come back. */
void ul_spawn_fail_here(ul_spawn *spawn) { fail(spawn, UL_SPAWN_FUNCTION, 0); }
