/* The epoll set that the selector keeps, waited on with nanoseconds. */
#ifndef UL_EPOLL_H
#define UL_EPOLL_H

#include <stdint.h>

#define UL_WATCH_MAX 256
typedef struct {
    uint32_t events;
    int32_t fd;
} ul_watch_event;
int ul_watch_edge(int epoll_fd, int fd);
int ul_watch_wait(int epoll_fd, ul_watch_event *events, int capacity, int64_t timeout_ns);

#endif
