/* The epoll set that the selector keeps, waited on with nanoseconds. */
#ifndef UL_EPOLL_H
#define UL_EPOLL_H

#include <stdint.h>

#define UL_EPOLL_MAX 256
typedef struct {
    uint32_t events;
    int32_t fd;
} ul_epoll_event;
int ul_epoll_add_edge(int epoll_fd, int fd);
int ul_epoll_sleep(int epoll_fd, ul_epoll_event *events, int capacity, int64_t timeout_ns);

#endif
