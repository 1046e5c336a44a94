/*
 * A sender of datagrams to a server that counts them: each by a send(2) of its own, or (-g) as many as fit into one
 * message, which the kernel cuts late (UDP_SEGMENT).
 *
 * Both send in bursts of the same size.  The rate is of the datagrams that have arrived, as the server tells.
 */
#include "measure.h"
#include <netinet/udp.h>
#include <poll.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { MESSAGE_MAX = 65487, SEGMENTS_MAX = 64, ATTEMPTS = 60, ANSWER_TIMEOUT_MS = 50 };

static struct {
    struct address address;
    size_t size;
    bool segments;
} option = {.size = 1200};

static int fd;
static uint64_t sent;
static size_t at_once;
static unsigned char *message;

static uint64_t ask(void) {
    unsigned char answer[8];
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    while (recv(fd, answer, sizeof answer, MSG_DONTWAIT) >= 0) continue;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (send(fd, "?", 1, 0) < 0) die("send: %m");
        if (poll(&polled, 1, ANSWER_TIMEOUT_MS) <= 0) continue;
        if (recv(fd, answer, sizeof answer, 0) != sizeof answer) die("a wrong answer");
        uint64_t count = 0;
        for (size_t i = 0; i < sizeof answer; i++) count = count << 8 | answer[i];
        return count;
    }
    die("the server does not answer");
    return 0;
}

static bool burst(void) {
    if (option.segments) {
        if (send(fd, message, at_once * option.size, 0) < 0) die("send: %m");
    } else {
        for (size_t i = 0; i < at_once; i++)
            if (send(fd, message + i * option.size, option.size, 0) < 0) die("send: %m");
    }
    sent += at_once;
    return true;
}

static void read_options(int argc, char **argv) {
    const char *address = NULL, *usage = "usage: datagrams -a PORT [-g] [-s BYTES] [-t SECONDS] [-w SECONDS]";
    for (int letter; (letter = getopt(argc, argv, "a:gs:t:w:")) != -1;) {
        if (letter == 'a') address = optarg;
        else if (letter == 'g') option.segments = true;
        else if (letter == 's') option.size = strtoul(optarg, NULL, 10);
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    if (!address || option.size == 0 || option.size > MESSAGE_MAX) die(usage);
    option.address = parse_address(address);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd < 0 || connect(fd, &option.address.any, option.address.size) < 0) die("connect: %m");
    at_once = MESSAGE_MAX / option.size < SEGMENTS_MAX ? MESSAGE_MAX / option.size : SEGMENTS_MAX;
    if (option.segments && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &(int){(int)option.size}, sizeof(int)) < 0)
        die("UDP_SEGMENT: %m");
    message = must_map(-1, at_once * option.size, 0);
    for (size_t i = 0; i < at_once * option.size; i++) message[i] = (unsigned char)(i % option.size);
    alarm((unsigned)(duration.warmup + duration.seconds) + GRACE_S + 2 * ATTEMPTS * ANSWER_TIMEOUT_MS / 1000);
    run_for(duration.warmup, burst);
    uint64_t before = ask();
    sent = 0;
    fputs("begin\n", stderr);
    uint64_t start = now_ns();
    double cpu_before = cpu_seconds();
    run_for(duration.seconds, burst);
    uint64_t arrived = ask() - before;
    double seconds = (double)(now_ns() - start) / 1e9, busy = (cpu_seconds() - cpu_before) / seconds;
    fputs("end\n", stderr);
    printf("{\"messages\": %ju, \"rate\": %.1f, \"lost_percent\": %.2f, \"load_busy\": %.3f}\n", (uintmax_t)arrived,
           (double)arrived / seconds, 100.0 * (1.0 - (double)arrived / (double)sent), busy);
    return 0;
}
