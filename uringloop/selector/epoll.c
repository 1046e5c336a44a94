/* Waiting on the epoll set, with a timeout in nanoseconds where epoll_pwait2(2) exists (Linux 5.11). */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <limits.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_epoll_pwait2
#define __NR_epoll_pwait2 441
#endif

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000LL

int ul_epoll_sleep(int epoll_fd, ul_epoll_event *events, int capacity, int64_t timeout_ns)
{
    struct timespec ts = {timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
    long count;
    if (timeout_ns == 0)
        count = epoll_wait(epoll_fd, events, capacity, 0);
    else
        count = syscall(__NR_epoll_pwait2, epoll_fd, events, capacity, timeout_ns < 0 ? NULL : &ts, NULL, 0);
    if (count < 0 && (errno == ENOSYS || errno == EPERM)) {
        int64_t timeout_ms = timeout_ns < 0 ? -1 : (timeout_ns + NS_PER_MS - 1) / NS_PER_MS;
        count = epoll_wait(epoll_fd, events, capacity, timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms);
    }
    return count < 0 ? -errno : (int)count;
}
