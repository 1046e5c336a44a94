/* Waiting on the selector's epoll set, with a timeout in nanoseconds where epoll_pwait2(2) exists (Linux 5.11).
 *
 * The ring's eventfd is watched edge-triggered and never read: its counter says nothing that the ring's flags do not.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_epoll_pwait2
#define __NR_epoll_pwait2 441
#endif

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000LL

int ul_epoll_add_edge(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.fd = fd}};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int ul_epoll_sleep(int epoll_fd, ul_epoll_event *events, int capacity, int64_t timeout_ns)
{
    struct epoll_event found[UL_EPOLL_MAX];
    struct timespec ts = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
    if (capacity > UL_EPOLL_MAX)
        capacity = UL_EPOLL_MAX;
    long count = syscall(__NR_epoll_pwait2, epoll_fd, found, capacity, timeout_ns < 0 ? NULL : &ts, NULL, 0);
    if (count < 0 && (errno == ENOSYS || errno == EPERM)) {
        int64_t timeout_ms = timeout_ns < 0 ? -1 : (timeout_ns + NS_PER_MS - 1) / NS_PER_MS;
        count = epoll_wait(epoll_fd, found, capacity, timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms);
    }
    if (count < 0)
        return -errno;
    for (long i = 0; i < count; i++)
        events[i] = (ul_epoll_event){found[i].events, found[i].data.fd};
    return (int)count;
}
