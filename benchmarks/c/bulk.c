/*
 * One connection over which much goes one way; its content is that of a file, over and over.
 *
 *     bulk -a ADDRESS -f FILE -m push     sends without end; at last the server says how many bytes it got, 8 of them
 *     bulk -a ADDRESS -f FILE -m pull     receives without end
 *     bulk -a ADDRESS -f FILE -m fetch    sends a byte, receives the file, again and again
 *
 * Blocking calls of one thread: with so much in each of them nothing is cheaper.  Messages of fetch are files.
 */
#include "bulk.h"

static int fd;

static bool push(void) {
    size_t start = total % file_size;
    ssize_t size = send(fd, file + start, least(CHUNK, file_size - start), MSG_NOSIGNAL);
    if (size < 0) return complain(0, total, "send", errno), false;
    count((size_t)size);
    return true;
}

static bool receive_some(size_t most) {
    size_t start = total % file_size;
    ssize_t size = recv(fd, chunk, least(least(CHUNK, most), file_size - start), 0);
    if (size <= 0) return complain(0, total, "closed by the server", size < 0 ? errno : 0), false;
    if (memcmp(chunk, file + start, (size_t)size) != 0) return complain(0, total, "content differs", 0), false;
    count((size_t)size);
    return true;
}

static bool pull(void) { return receive_some(CHUNK); }

static bool fetch(void) {
    uint64_t began_ns = now_ns(), end = total + file_size;
    if (send(fd, "?", 1, MSG_NOSIGNAL) != 1) return complain(0, total, "send", errno), false;
    while (total < end)
        if (!receive_some(end - total)) return false;
    if (phase == MEASURING) {
        messages++;
        record(now_ns() - began_ns);
    }
    return true;
}

static void ask_what_arrived(void) {
    uint64_t arrived;
    shutdown(fd, SHUT_WR);
    ssize_t size = recv(fd, &arrived, sizeof arrived, MSG_WAITALL);
    check_what_arrived(arrived, size);
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: bulk -a ADDRESS -f FILE -m push|pull|fetch [-t SECONDS] [-w WARM_UP_SECONDS]";
    static const char *const modes[] = {"push", "pull", "fetch", NULL};
    static bool (*const turns[])(void) = {push, pull, fetch};
    struct address address;
    bool (*go_on)(void) = turns[prepare(argc, argv, usage, modes, &address)];
    fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &address.any, address.size) < 0) die("connection: %m");
    no_delay(fd, &address);
    unpaced(fd, &address);

    measure(go_on);
    if (go_on == push && errors == 0) ask_what_arrived();
    if (go_on != fetch) messages = measured / MIB;
    return report();
}
