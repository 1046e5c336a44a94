/*
 * The limit for loops on epoll: an echo server that does nothing else.
 *
 *     epoll_server ADDRESS
 *
 * It answers at once what it reads; what finds no room is kept, and nothing more is read there until it has left.
 */
#include "common.h"
#include <sys/epoll.h>

enum { CHUNK = 256 << 10, EVENTS = 1024, FDS = 1 << 16 };

static struct {
    unsigned char *bytes;
    size_t size;
} unsent[FDS]; /* by descriptor */

static unsigned char chunk[CHUNK];
static struct address address;
static int poller;

static void watch(int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) < 0) die("epoll_ctl: %m");
}

static void drop(int fd) {
    free(unsent[fd].bytes);
    unsent[fd].bytes = NULL;
    close(fd);
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= FDS) die("too many connections");
        no_delay(fd, &address);
        watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    }
    if (errno != EAGAIN && errno != ECONNABORTED) die("accept: %m");
}

/* How much of it was sent, or -1. */
static ssize_t send_some(int fd, const unsigned char *bytes, size_t size) {
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void answer(int fd) {
    ssize_t size = recv(fd, chunk, sizeof chunk, 0);
    if (size < 0 && errno == EAGAIN) return;
    ssize_t sent = size > 0 ? send_some(fd, chunk, (size_t)size) : -1;
    if (sent < 0) return drop(fd);
    if (sent == size) return;
    unsent[fd].size = (size_t)(size - sent);
    unsent[fd].bytes = malloc(unsent[fd].size);
    if (!unsent[fd].bytes) die("out of memory");
    memcpy(unsent[fd].bytes, chunk + sent, unsent[fd].size);
    watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
}

static void go_on(int fd) {
    ssize_t sent = send_some(fd, unsent[fd].bytes, unsent[fd].size);
    if (sent < 0) return drop(fd);
    unsent[fd].size -= (size_t)sent;
    memmove(unsent[fd].bytes, unsent[fd].bytes + sent, unsent[fd].size);
    if (unsent[fd].size > 0) return;
    free(unsent[fd].bytes);
    unsent[fd].bytes = NULL;
    watch(EPOLL_CTL_MOD, fd, EPOLLIN);
}

int main(int argc, char **argv) {
    if (argc != 2) die("usage: epoll_server ADDRESS");
    address = parse_address(argv[1]);
    int listener = listen_at(argv[1], SOCK_NONBLOCK);
    poller = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(listener);
            else if (unsent[fd].bytes) go_on(fd);
            else answer(fd);
        }
    }
}
