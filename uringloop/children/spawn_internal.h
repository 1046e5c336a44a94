/* The start of a child: the half of the parent (spawn.c) and that of the child (spawn_child.c). */
#ifndef UL_SPAWN_INTERNAL_H
#define UL_SPAWN_INTERNAL_H

#include "spawn.h"

#include <sys/syscall.h>

#ifndef __NR_close_range
#define __NR_close_range 436
#endif

/* Whether the system call instruction is written out in spawn_child.c, so that the child calls nothing of libc. */
#if defined(__x86_64__) || defined(__aarch64__)
#define CHILD_RUNS_BESIDE 1
#else
#define CHILD_RUNS_BESIDE 0
#endif

struct ul_spawn {
    size_t size; /* of this mapping, which begins with the stack's guard page and the stack */
    ul_spawn_plan plan;
    uint64_t signal_mask;
    int signals_blocked;
    uint32_t descriptor_max;
    int32_t *kept;    /* numbers that the program inherits beside the first three */
    int32_t *sources; /* where they are before they have these numbers */
    int32_t *needed;  /* the child leaves only these open, and the first three; ascending */
    int32_t needed_count;
    uint32_t *groups;
    char **arguments, **environment, **programs;
    char *directory;
    int directory_needs_descriptors, program_needs_descriptors; /* those that are closed else */
    int shares_descriptors;                                     /* the child begins with this process's table */
    int32_t *duplicates;                                        /* of this process, for the child */
    int32_t duplicate_count;
};

int ul_spawn_child(void *spawn);

#endif
