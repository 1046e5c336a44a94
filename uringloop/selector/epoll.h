/* The epoll set of the descriptors that a loop watches, waited on with nanoseconds. */
#ifndef UL_EPOLL_H
#define UL_EPOLL_H

#include <stdint.h>
#include <sys/epoll.h>

#define UL_EPOLL_MAX 256
typedef struct epoll_event ul_epoll_event;

/* epoll_ctl(2); the data of an event is the generation above the descriptor. */
static inline int ul_epoll_control(int epoll_fd, int operation, int fd, uint32_t events, uint32_t generation)
{
    struct epoll_event event = {.events = events, .data = {.u64 = (uint64_t)generation << 32 | (uint32_t)fd}};
    return epoll_ctl(epoll_fd, operation, fd, &event);
}

static inline int ul_epoll_fd(const ul_epoll_event *event) { return (int)(uint32_t)event->data.u64; }

static inline uint32_t ul_epoll_generation(const ul_epoll_event *event) { return (uint32_t)(event->data.u64 >> 32); }

int ul_epoll_sleep(int epoll_fd, ul_epoll_event *events, int capacity, int64_t timeout_ns);

#endif
