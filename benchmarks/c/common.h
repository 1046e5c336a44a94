/*
 * What every program here needs: an end with a message, the clock, memory, and sockets by address.
 *
 * An address is a TCP port of 127.0.0.1 where it is a number, and the path of a unix socket otherwise.
 */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

static inline void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static inline void *must_map(int fd, size_t size, off_t offset) {
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);
    if (memory == MAP_FAILED) die("mmap of %zu bytes: %m", size);
    return memory;
}

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in tcp;
        struct sockaddr_un local;
    };
    socklen_t size;
};

static inline struct address parse_address(const char *text) {
    struct address address = {0};
    if (text[0] && strspn(text, "0123456789") == strlen(text)) {
        address.tcp.sin_family = AF_INET;
        address.tcp.sin_port = htons((uint16_t)atoi(text));
        address.tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.size = sizeof address.tcp;
        return address;
    }
    if (strlen(text) >= sizeof address.local.sun_path) die("too long for a unix socket: %s", text);
    address.local.sun_family = AF_UNIX;
    strcpy(address.local.sun_path, text);
    address.size = sizeof address.local;
    return address;
}

static inline void no_delay(int fd, const struct address *address) {
    if (address->any.sa_family == AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* Much is sent as fast as it can be: BBR, which is the default of some machines, would pace it by what it takes for the
 * link's rate, and measure itself.  A listener's connections inherit this. */
static inline void unpaced(int fd, const struct address *address) {
    if (address->any.sa_family == AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", sizeof "cubic" - 1);
}

/* Prints the line that the benchmarks wait for. */
static inline int listen_at(const char *text, int socket_flags) {
    struct address address = parse_address(text);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
    if (fd < 0) die("socket: %m");
    if (bind(fd, &address.any, address.size) < 0 || listen(fd, BACKLOG) < 0) die("%s: %m", text);
    if (getsockname(fd, &address.any, &address.size) < 0) die("getsockname: %m");
    if (address.any.sa_family == AF_INET) printf("listening at %d\n", ntohs(address.tcp.sin_port));
    else printf("listening at %s\n", text);
    fflush(stdout);
    return fd;
}
