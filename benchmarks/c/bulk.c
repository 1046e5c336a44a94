/*
 * One connection over which much goes one way; its content is that of a file, over and over.
 *
 *     bulk -a ADDRESS -f FILE -m push     sends without end; at last the server says how many bytes it got, 8 of them
 *     bulk -a ADDRESS -f FILE -m pull     receives without end
 *     bulk -a ADDRESS -f FILE -m fetch    sends a byte, receives the file, again and again
 *
 * Blocking calls of one thread: with so much in each of them nothing is cheaper.  Messages are MiB, or files for fetch.
 */
#include "measure.h"
#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { CHUNK = 256 << 10, MIB = 1 << 20 };

static unsigned char *file, *chunk;
static size_t file_size;
static uint64_t total;    /* bytes, since the connection was made */
static uint64_t measured; /* bytes of them in the measured time */
static int fd;

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static void count(size_t size) {
    total += size;
    if (phase == MEASURING) measured += size;
}

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

static void check_that_all_arrived(void) {
    uint64_t arrived;
    shutdown(fd, SHUT_WR);
    if (recv(fd, &arrived, sizeof arrived, MSG_WAITALL) != sizeof arrived)
        complain(0, total, "the server found other content, or did not answer", 0);
    else if (be64toh(arrived) != total) complain(0, be64toh(arrived), "bytes are missing", 0);
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: bulk -a ADDRESS -f FILE -m push|pull|fetch [-t SECONDS] [-w WARM_UP_SECONDS]";
    const char *address_text = NULL, *path = NULL, *mode = "";
    for (int letter; (letter = getopt(argc, argv, "a:f:m:t:w:")) != -1;) {
        if (letter == 'a') address_text = optarg;
        else if (letter == 'f') path = optarg;
        else if (letter == 'm') mode = optarg;
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    bool (*go_on)(void) = !strcmp(mode, "push") ? push : !strcmp(mode, "pull") ? pull : fetch;
    if (!address_text || !path || (go_on == fetch && strcmp(mode, "fetch"))) die(usage);
    struct address address = parse_address(address_text);
    struct stat status;
    int source = open(path, O_RDWR | O_CLOEXEC);
    if (source < 0 || fstat(source, &status) < 0 || status.st_size == 0) die("%s: cannot be used", path);
    file_size = (size_t)status.st_size;
    file = must_map(source, file_size, 0);
    chunk = must_map(-1, CHUNK, 0);
    fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &address.any, address.size) < 0) die("connection: %m");
    no_delay(fd, &address);

    measure(go_on);
    if (go_on == push && errors == 0) check_that_all_arrived();
    if (go_on != fetch) messages = measured / MIB;
    return report();
}
