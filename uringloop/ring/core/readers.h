/* The program's readers and writers in the set of the backend on epoll(7), so that one epoll_wait(2) tells of them too.
 *
 * The set has one entry for each descriptor and file.  Where a request needs it, the reader's moves to another set,
 * which the backend's set watches.  Events are collected in a sleep only, since a callback between two sleeps may read
 * the bytes.  An event that comes between is dropped, and its entry switched off until the next sleep asks again.
 */
#ifndef UL_READERS_H
#define UL_READERS_H

#include <stdint.h>
#include <sys/epoll.h>

#define UL_READERS_MAX 256
/* Above the generation in the data of a reader's event. */
#define UL_READER_BIT (1ULL << 63)

/* Answers in place of a negative errno: the descriptor's entry is a request's. */
#define UL_READER_ELSEWHERE 1

typedef struct ul_ring ul_ring;
typedef struct {
    int set_fd, other_fd; /* the backend's set; the one for descriptors that requests wait for */
    int collects, count;
    int other_found, other_armed;     /* the other set has events; its own entry is switched on */
    uint32_t missed_from, missed_end; /* the descriptors among which entries are switched off; none: the same */
    int has_yielded;                  /* an entry was moved to the other set */
    uint32_t round;                   /* counts the sleeps */
    struct epoll_event events[UL_READERS_MAX];
} ul_readers;

ul_readers *ul_readers_open(ul_ring *ring, int other_fd);
int ul_reader_control(ul_ring *ring, int operation, int fd, uint32_t events, uint32_t generation);
void ul_readers_ask(ul_ring *ring);
int ul_readers_look(ul_ring *ring);

static inline uint64_t ul_reader_data(int fd, uint32_t generation)
{
    return UL_READER_BIT | (uint64_t)generation << 32 | (uint32_t)fd;
}

#endif
