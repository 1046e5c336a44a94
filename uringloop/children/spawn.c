/* A child process whose start suspends no other work: the parent's half.
 *
 * vfork(2) and posix_spawn(3) suspend the caller until the child has called execve(2), which reads the program from
 * its file system; CPython's subprocess holds the GIL meanwhile.  fork(2) copies the page tables of the whole process.
 * Here the child shares the caller's memory, as after vfork, but on a stack of its own, and the caller goes on at once.
 * That takes about 50 us, whatever the program, its file system and the size of this process.
 *
 * The child reports through a pipe.  End of file means that the program runs: the pipe's end is close-on-exec, and the
 * kernel releases the memory before it closes.  Otherwise a ul_spawn_report comes.  Until then the child runs on the
 * memory of its ul_spawn.  Nothing may free that, not even the end of the loop or of the interpreter.
 *
 * The child is a thread in all but name, and it borrows the caller's thread-local storage: see spawn_child.c.  Signals
 * are blocked until it has no handlers left, because a handler would run on the caller's data.
 *
 * A child that changes its user or groups gets a copy of the memory.  The kernel makes such a process undumpable,
 * together with all processes on that memory.  A tracer of the child could also trace its parent's memory.
 *
 * A copy of the table of descriptors keeps alive the files that this process closes meanwhile.  A file stays busy
 * (ETXTBSY) or locked, a port stays taken, the reader of a pipe waits for its end.  A new child with such a copy may
 * wait milliseconds for a CPU.  So the child begins with the table of this process, and copies from it only the
 * descriptors that the program inherits.  This process may close and reuse those numbers meanwhile, so it makes
 * duplicates for the child, and closes them when the child reports UL_SPAWN_CLOSED.  Four cases need a copy all the
 * same: close_fds=False, a preexec_fn, a working directory below /proc or /dev, and a kernel without close_range(2).
 * Except with a preexec_fn, the child closes what it does not need of a copy as soon as it runs.
 */
#define _GNU_SOURCE
#include "spawn_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#define STACK_SIZE (64 * 1024)
#define STANDARD_COUNT 3
/* Input, output, error, report. */
#define OWN_COUNT 4

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

extern char **environ;

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
    size_t kept_size = (size_t)plan->kept_count * sizeof(*plan->kept);
    spawn->kept = copy(room, plan->kept, kept_size);
    spawn->sources = copy(room, plan->kept, kept_size);
    spawn->needed = take(room, kept_size + OWN_COUNT * sizeof(*spawn->needed));
    spawn->duplicates = take(room, kept_size + OWN_COUNT * sizeof(*spawn->duplicates));
    spawn->groups = plan->group_count < 0 ? NULL
                                          : copy(room, plan->groups, (size_t)plan->group_count * sizeof(*plan->groups));
}

/* Whether a path may lead through a descriptor. */
static int may_name_descriptor(const char *path)
{
    return strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/", 5) == 0;
}

static void look_at_paths(ul_spawn *spawn)
{
    spawn->directory_needs_descriptors = spawn->directory != NULL && may_name_descriptor(spawn->directory);
    /* With close_others, as subprocess.Popen does it, the program cannot be found by them. */
    for (char **program = spawn->programs; !spawn->plan.close_others && *program != NULL; program++)
        spawn->program_needs_descriptors |= may_name_descriptor(*program);
}

static void add_needed(ul_spawn *spawn, int32_t fd)
{
    int32_t i = spawn->needed_count++;
    for (; i > 0 && spawn->needed[i - 1] > fd; i--)
        spawn->needed[i] = spawn->needed[i - 1];
    spawn->needed[i] = fd;
}

/* Puts a duplicate in the place of a descriptor. */
static int duplicate(ul_spawn *spawn, int32_t *fd)
{
    if (*fd < 0)
        return 1;
    int copy = fcntl(*fd, F_DUPFD_CLOEXEC, STANDARD_COUNT);
    if (copy < 0)
        return 0;
    *fd = copy;
    spawn->duplicates[spawn->duplicate_count++] = copy;
    add_needed(spawn, copy);
    return 1;
}

static int duplicate_all(ul_spawn *spawn)
{
    ul_spawn_plan *plan = &spawn->plan;
    int done = duplicate(spawn, &plan->input) && duplicate(spawn, &plan->output) && duplicate(spawn, &plan->error) &&
               duplicate(spawn, &plan->report);
    for (int32_t i = 0; done && i < plan->kept_count; i++)
        done = duplicate(spawn, &spawn->sources[i]);
    return done;
}

/* Whether the child can begin with the table of this process.  It must be able to leave it, and the duplicates must be
 * all that it needs. */
static int may_share_descriptors(const ul_spawn *spawn)
{
    return CHILD_RUNS_BESIDE && spawn->plan.close_others && !spawn->directory_needs_descriptors &&
           syscall(SYS_close_range, UINT32_MAX, UINT32_MAX, 0) == 0;
}

/* As the child needs them in a copy of the table. */
static void name_descriptors(ul_spawn *spawn)
{
    spawn->shares_descriptors = 0;
    spawn->needed_count = 0;
    add_needed(spawn, spawn->plan.report);
    for (int32_t i = 0; i < spawn->plan.kept_count; i++) {
        spawn->sources[i] = spawn->kept[i];
        add_needed(spawn, spawn->kept[i]);
    }
}

static void share_descriptors(ul_spawn *spawn)
{
    const ul_spawn_plan before = spawn->plan;
    spawn->needed_count = 0;
    spawn->shares_descriptors = duplicate_all(spawn);
    if (spawn->shares_descriptors)
        return;
    /* There is no room for duplicates, or one of them is not open: the child says so. */
    ul_spawn_close_duplicates(spawn);
    spawn->plan = before;
    name_descriptors(spawn);
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
    look_at_paths(spawn);
    spawn->duplicate_count = 0;
    name_descriptors(spawn);
    spawn->size = size;
    spawn->descriptor_max = (uint32_t)sysconf(_SC_OPEN_MAX);
    return spawn;
}

/* Starts the child; its process id or a negative errno.  *pidfd is a descriptor of it, close-on-exec, or -1. */
int ul_spawn_start(ul_spawn *spawn, int *pidfd)
{
    const uint64_t all = UINT64_MAX;
    int changes_user = spawn->plan.uid >= 0 || spawn->plan.gid >= 0 || spawn->plan.group_count >= 0;
    int flags = SIGCHLD | CLONE_PIDFD;
    if (!changes_user)
        flags |= CHILD_RUNS_BESIDE ? CLONE_VM : CLONE_VM | CLONE_VFORK;
    if (may_share_descriptors(spawn))
        share_descriptors(spawn);
    if (spawn->shares_descriptors)
        flags |= CLONE_FILES;
    spawn->signals_blocked = 1;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &spawn->signal_mask, sizeof(all));
    /* The stack ends, that is begins, where the struct begins. */
    *pidfd = -1;
    int pid = clone(ul_spawn_child, spawn, flags, spawn, pidfd);
    if (pid < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM)) /* there are no pidfds */
        pid = clone(ul_spawn_child, spawn, flags & ~CLONE_PIDFD, spawn, pidfd);
    int error = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &spawn->signal_mask, NULL, sizeof(all));
    if (pid < 0)
        ul_spawn_close_duplicates(spawn);
    return pid < 0 ? -error : pid;
}

/* Closes the duplicates: the child has reported, has ended, or was not started. */
void ul_spawn_close_duplicates(ul_spawn *spawn)
{
    while (spawn->duplicate_count > 0)
        close(spawn->duplicates[--spawn->duplicate_count]);
}

/* Whether the child may still need the duplicates. */
int ul_spawn_holds(const ul_spawn *spawn) { return spawn->duplicate_count > 0; }

/* Only when the child has reported, or was not started. */
void ul_spawn_free(ul_spawn *spawn)
{
    size_t head = (size_t)sysconf(_SC_PAGESIZE) + STACK_SIZE;
    ul_spawn_close_duplicates(spawn);
#ifdef __SANITIZE_ADDRESS__
    /* The child never returned from its functions: AddressSanitizer would find their marks under the next mapping here.
     */
    __asan_unpoison_memory_region((char *)spawn - head, spawn->size);
#endif
    munmap((char *)spawn - head, spawn->size);
}
