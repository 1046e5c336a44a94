/* A child process whose start suspends no other work. */
#ifndef UL_SPAWN_H
#define UL_SPAWN_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *arguments, *programs, *environment; /* strings one after the other; environment NULL: this process's */
    size_t arguments_size, programs_size, environment_size;
    const char *directory; /* NULL: stay here */
    const int32_t *kept;   /* descriptors to be inherited, ascending, without the report's */
    const uint32_t *groups;
    int32_t kept_count, group_count; /* group_count -1: keep the groups */
    int32_t input, output, error,
        report; /* what becomes 0, 1 and 2, if not -1; and the pipe's end for the report, above 2 */
    int32_t close_others, restore_signals, new_session, process_group, umask; /* the last two: -1 to leave as it is */
    int64_t uid, gid;
} ul_spawn_plan;

typedef struct {
    int32_t stage; /* UL_SPAWN_* */
    int32_t error; /* errno */
} ul_spawn_report;

enum {
    UL_SPAWN_PROGRAM = 0, /* where it failed */
    UL_SPAWN_PREPARING = 1,
    UL_SPAWN_DIRECTORY = 2,
    UL_SPAWN_FUNCTION = 3,
    UL_SPAWN_CLOSED = 4, /* no failure: it has a table of descriptors of its own */
};

typedef struct ul_spawn ul_spawn;
ul_spawn *ul_spawn_open(const ul_spawn_plan *plan, int *error);
int ul_spawn_start(ul_spawn *spawn, int *pidfd);
void ul_spawn_close_duplicates(ul_spawn *spawn);
int ul_spawn_holds(const ul_spawn *spawn);
void ul_spawn_prepare_here(ul_spawn *spawn);
void ul_spawn_run_here(ul_spawn *spawn);
void ul_spawn_fail_here(ul_spawn *spawn);
void ul_spawn_free(ul_spawn *spawn);

#endif
