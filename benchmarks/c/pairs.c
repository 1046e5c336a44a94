/*
 * Echoes over socket pairs within one process, by epoll: the system calls of benchmarks/cores.py, and nothing else.
 *
 *     pairs PAIRS BYTES SECONDS
 *
 * It prints "ready", waits for a line, and prints the rate of echoes as JSON.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double memory_mib(void) {
    char line[256];
    long kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "Pss: %ld", &kib) == 1) break;
    if (file != NULL) fclose(file);
    return (double)kib / 1024;
}

/* Echoes until a time; counts those that came back to the asking ends, which have the odd numbers. */
static long echo_until(int set, double end_s) {
    static char bytes[65536];
    struct epoll_event events[EVENTS_MAX];
    long count = 0;
    while (now_s() < end_s) {
        int found = epoll_wait(set, events, EVENTS_MAX, -1);
        for (int i = 0; i < found; i++) {
            int fd = (int)(events[i].data.u64 >> 1);
            ssize_t size = recv(fd, bytes, sizeof(bytes), 0);
            if (size <= 0 || send(fd, bytes, (size_t)size, 0) != size) exit(1);
            count += (long)(events[i].data.u64 & 1);
        }
    }
    return count;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int pairs = atoi(argv[1]), size = atoi(argv[2]);
    double seconds = atof(argv[3]);
    int set = epoll_create1(0);
    char *message = calloc(1, (size_t)size);
    for (int i = 0; i < pairs; i++) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0) return 1;
        for (int end = 0; end < 2; end++) {
            struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)ends[end] << 1 | (uint64_t)end};
            if (epoll_ctl(set, EPOLL_CTL_ADD, ends[end], &event) < 0) return 1;
        }
        if (send(ends[1], message, (size_t)size, 0) != size) return 1;
    }
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    echo_until(set, now_s() + seconds / 4);
    double begin_s = now_s();
    clock_t begin_cpu = clock();
    long count = echo_until(set, begin_s + seconds);
    double cpu_us = (double)(clock() - begin_cpu) * (1e6 / CLOCKS_PER_SEC) / (double)count;
    double rate = (double)count / (now_s() - begin_s);
    printf("{\"rate\": %.1f, \"cpu_us\": %.3f, \"memory_MiB\": %.2f}\n", rate, cpu_us, memory_mib());
    return 0;
}
