/* A child process whose start stalls nobody.
 *
 * vfork(2) and posix_spawn(3) suspend the caller until the child has called execve(2), which reads the program from
 * its file system; CPython's subprocess holds the GIL meanwhile.  fork(2) copies the page tables of the whole process.
 * Here the child shares the caller's memory, as after vfork, on a stack of its own, and the caller goes on at once: about
 * 50 us, whatever the program, its file system and the size of this process.  The child tells how it went through a pipe:
 * end of file when the program runs (the pipe's end is close-on-exec, and the kernel lets go of the memory before that),
 * else a ul_spawn_report.  Until then the child runs on the memory of its ul_spawn, which must not be freed: it is not
 * when the loop, or the whole interpreter, is closed meanwhile.
 *
 * The child is a thread in all but name, and it borrows the caller's thread-local storage: it must not touch errno, and
 * calls nothing of libc, only the kernel.  Where the system call instruction is not written out below, it suspends the
 * caller after all, and may use libc's.  Signals are blocked until it has no handlers left, because a handler would run
 * on the caller's data.
 *
 * A child that changes its user or groups gets a copy of the memory: the kernel makes a process undumpable that does so,
 * together with everybody on that memory, and whoever may trace the child could trace its parent's memory.
 */
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK_SIZE (64 * 1024)
#define LAST_SIGNAL 64
#define FIRST_INTERNAL_SIGNAL 32 /* libc's own: it neither lets them be changed nor sends them to other processes */
#define LAST_INTERNAL_SIGNAL 33

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef __NR_close_range
#define __NR_close_range 436
#endif

extern char **environ;

struct ul_spawn {
    size_t size; /* of this mapping, which begins with the stack's guard page and the stack */
    ul_spawn_plan plan;
    uint64_t signal_mask;
    int signals_blocked;
    uint32_t descriptor_max;
    int32_t *kept;
    uint32_t *groups;
    char **arguments, **environment, **programs;
    char *directory;
};

/* --- the child --- */

#if defined(__x86_64__)
#define CHILD_RUNS_BESIDE 1
static long call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define CHILD_RUNS_BESIDE 1
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
#define CHILD_RUNS_BESIDE 0
static long call(long number, long a, long b, long c, long d)
{
    long result = syscall(number, a, b, c, d);
    return result < 0 ? -errno : result;
}
#endif

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
        if (spawn->kept[i] != plan->report)
            error = call(SYS_fcntl, spawn->kept[i], F_SETFD, 0, 0);
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

static void close_range_of(ul_spawn *spawn, uint32_t first, uint32_t last)
{
    if (first > last || call(SYS_close_range, first, last, 0, 0) >= 0)
        return;
    /* A seccomp filter that does not know it. */
    for (uint32_t fd = first; fd <= last && fd <= spawn->descriptor_max; fd++)
        call(SYS_close, fd, 0, 0, 0);
}

static void close_the_rest(ul_spawn *spawn)
{
    uint32_t first = 3;
    for (int32_t i = 0; i < spawn->plan.kept_count; i++) {
        uint32_t kept = (uint32_t)spawn->kept[i];
        if (kept < first)
            continue;
        if (kept > first)
            close_range_of(spawn, first, kept - 1);
        first = kept + 1;
    }
    close_range_of(spawn, first, UINT32_MAX);
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

/* As execvp(3): the first error that says more than that the program is not there. */
static long execute(ul_spawn *spawn)
{
    long first = 0, last = 0;
    for (char **program = spawn->programs; *program != NULL; program++) {
        last = call(SYS_execve, (long)*program, (long)spawn->arguments, (long)spawn->environment, 0);
        if (first == 0 && last != -ENOENT && last != -ENOTDIR)
            first = last;
    }
    return first != 0 ? first : last;
}

static long prepare_child(ul_spawn *spawn, int32_t *stage)
{
    long error = connect_descriptors(spawn);
    if (error < 0)
        return error;
    if (spawn->directory != NULL) {
        *stage = UL_SPAWN_DIRECTORY;
        error = call(SYS_chdir, (long)spawn->directory, 0, 0, 0);
        if (error < 0)
            return error;
        *stage = UL_SPAWN_PREPARING;
    }
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

static void fail(ul_spawn *spawn, int32_t stage, long error)
{
    ul_spawn_report report = {stage, (int32_t)-error};
    call(SYS_write, spawn->plan.report, (long)&report, sizeof(report), 0);
    call(SYS_exit_group, 255, 0, 0, 0);
}

static void run_program(ul_spawn *spawn)
{
    if (spawn->plan.close_others)
        close_the_rest(spawn);
    fail(spawn, UL_SPAWN_PROGRAM, execute(spawn));
}

static int child(void *argument)
{
    ul_spawn *spawn = argument;
    int32_t stage = UL_SPAWN_PREPARING;
    long error = prepare_child(spawn, &stage);
    if (error < 0)
        fail(spawn, stage, error);
    run_program(spawn);
    return 0;
}

/* --- the parent --- */

static size_t count_strings(const char *text, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\0';
    return count;
}

/* Room from one end of the mapping on; NULL only counts it. */
typedef struct {
    char *next;
    size_t size;
} room;

static void *take(room *room, size_t size)
{
    char *start = room->next;
    size = (size + 15) & ~(size_t)15;
    room->size += size;
    if (start != NULL)
        room->next += size;
    return start;
}

static void *copy(room *room, const void *data, size_t size)
{
    void *start = take(room, size);
    if (start != NULL && size > 0)
        memcpy(start, data, size);
    return start;
}

static char **copy_strings(room *room, const char *text, size_t size)
{
    size_t count = count_strings(text, size);
    char **pointers = take(room, (count + 1) * sizeof(*pointers));
    char *strings = copy(room, text, size);
    if (pointers == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        pointers[i] = strings;
        strings += strlen(strings) + 1;
    }
    pointers[count] = NULL;
    return pointers;
}

static char **copy_own_environment(room *room)
{
    size_t count = 0;
    while (environ != NULL && environ[count] != NULL)
        count++;
    char **pointers = take(room, (count + 1) * sizeof(*pointers));
    for (size_t i = 0; i < count; i++) {
        char *string = copy(room, environ[i], strlen(environ[i]) + 1);
        if (pointers != NULL)
            pointers[i] = string;
    }
    if (pointers != NULL)
        pointers[count] = NULL;
    return pointers;
}

static void copy_plan(room *room, const ul_spawn_plan *plan, ul_spawn *spawn)
{
    spawn->plan = *plan;
    spawn->arguments = copy_strings(room, plan->arguments, plan->arguments_size);
    spawn->programs = copy_strings(room, plan->programs, plan->programs_size);
    spawn->environment = plan->environment == NULL ? copy_own_environment(room)
                                                   : copy_strings(room, plan->environment, plan->environment_size);
    spawn->directory = plan->directory == NULL ? NULL : copy(room, plan->directory, strlen(plan->directory) + 1);
    spawn->kept = copy(room, plan->kept, (size_t)plan->kept_count * sizeof(*plan->kept));
    spawn->groups = plan->group_count < 0 ? NULL : copy(room, plan->groups, (size_t)plan->group_count * sizeof(*plan->groups));
}

/* Copies the plan to where the child can have it for itself. */
ul_spawn *ul_spawn_open(const ul_spawn_plan *plan, int *error)
{
    ul_spawn counted;
    room needed = {NULL, 0};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    copy_plan(&needed, plan, &counted);
    size_t head = page + STACK_SIZE;
    size_t size = head + sizeof(ul_spawn) + 16 + needed.size;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        *error = -errno;
        return NULL;
    }
    mprotect(memory, page, PROT_NONE);
    ul_spawn *spawn = (ul_spawn *)(memory + head);
    room room = {memory + head + ((sizeof(ul_spawn) + 15) & ~(size_t)15), 0};
    copy_plan(&room, plan, spawn);
    spawn->size = size;
    spawn->descriptor_max = (uint32_t)sysconf(_SC_OPEN_MAX);
    return spawn;
}

/* Starts the child; its process id or a negative errno.  *pidfd is a descriptor of it, close-on-exec. */
int ul_spawn_start(ul_spawn *spawn, int *pidfd)
{
    const uint64_t all = UINT64_MAX;
    int changes_user = spawn->plan.uid >= 0 || spawn->plan.gid >= 0 || spawn->plan.group_count >= 0;
    int flags = SIGCHLD | CLONE_PIDFD;
    if (!changes_user)
        flags |= CHILD_RUNS_BESIDE ? CLONE_VM : CLONE_VM | CLONE_VFORK;
    spawn->signals_blocked = 1;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &spawn->signal_mask, sizeof(all));
    /* The stack ends, that is begins, where the struct begins. */
    int pid = clone(child, spawn, flags, spawn, pidfd);
    int error = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &spawn->signal_mask, NULL, sizeof(all));
    return pid < 0 ? -error : pid;
}

/* The first half of what the child does, in a child that was forked already; fails as that does. */
void ul_spawn_prepare_here(ul_spawn *spawn)
{
    int32_t stage = UL_SPAWN_PREPARING;
    long error = prepare_child(spawn, &stage);
    if (error < 0)
        fail(spawn, stage, error);
}

/* The second half.  Does not come back. */
void ul_spawn_run_here(ul_spawn *spawn) { run_program(spawn); }

/* What was to be done between the halves has failed.  Does not come back. */
void ul_spawn_fail_here(ul_spawn *spawn) { fail(spawn, UL_SPAWN_FUNCTION, 0); }

/* Only when the child has reported, or was not started. */
void ul_spawn_free(ul_spawn *spawn)
{
    size_t head = (size_t)sysconf(_SC_PAGESIZE) + STACK_SIZE;
    munmap((char *)spawn - head, spawn->size);
}
