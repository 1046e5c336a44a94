/*
 * One connection over TLS on which much goes one way; its content is that of a file, over and over.
 *
 *     tls_bulk -a ADDRESS -f FILE -m push     sends without end; at last the server says how many bytes it got
 *     tls_bulk -a ADDRESS -f FILE -m pull     receives without end
 *
 * Blocking calls of one thread.  What is received is compared in one record of sixteen, for this side must not be
 * slower than the server.  Messages are MiB.
 */
#include "measure.h"
#include "tls.h"
#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { CHUNK = 256 << 10, MIB = 1 << 20, COMPARED = 16 };

static unsigned char *file, *chunk;
static size_t file_size;
static uint64_t total;    /* bytes, since the connection was made */
static uint64_t measured; /* bytes of them in the measured time */
static uint64_t reads;
static SSL *tls;

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static bool counted(int size, const char *what) {
    if (size <= 0) return complain(0, total, what, 0), false;
    total += (uint64_t)size;
    if (phase == MEASURING) measured += (uint64_t)size;
    return true;
}

static bool push(void) {
    size_t start = total % file_size;
    return counted(SSL_write(tls, file + start, (int)least(CHUNK, file_size - start)), "not sent");
}

static bool pull(void) {
    size_t start = total % file_size;
    int size = SSL_read(tls, chunk, (int)least(CHUNK, file_size - start));
    if (size > 0 && reads++ % COMPARED == 0 && memcmp(chunk, file + start, (size_t)size) != 0)
        return complain(0, total, "content differs", 0), false;
    return counted(size, "closed by the server");
}

static void check_that_all_arrived(void) {
    uint64_t arrived;
    SSL_shutdown(tls);
    if (SSL_read(tls, &arrived, sizeof arrived) != sizeof arrived)
        complain(0, total, "the server found other content, or did not answer", 0);
    else if (be64toh(arrived) != total) complain(0, be64toh(arrived), "bytes are missing", 0);
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: tls_bulk -a ADDRESS -f FILE -m push|pull [-t SECONDS] [-w WARM_UP_SECONDS]";
    const char *address_text = NULL, *path = NULL, *mode = "";
    for (int letter; (letter = getopt(argc, argv, "a:f:m:t:w:")) != -1;) {
        if (letter == 'a') address_text = optarg;
        else if (letter == 'f') path = optarg;
        else if (letter == 'm') mode = optarg;
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    bool (*go_on)(void) = !strcmp(mode, "push") ? push : pull;
    if (!address_text || !path || (go_on == pull && strcmp(mode, "pull"))) die(usage);
    struct address address = parse_address(address_text);
    struct stat status;
    int source = open(path, O_RDWR | O_CLOEXEC);
    if (source < 0 || fstat(source, &status) < 0 || status.st_size == 0) die("%s: cannot be used", path);
    file_size = (size_t)status.st_size;
    file = must_map(source, file_size, 0);
    chunk = must_map(-1, CHUNK, 0);
    SSL_CTX *context = must_make_context();
    SSL_CTX_set_default_read_buffer_len(context, CHUNK);
    tls = open_tls(context, &address, 0);
    if (SSL_connect(tls) != 1) die_of_tls(0);

    measure(go_on);
    if (go_on == push && errors == 0) check_that_all_arrived();
    messages = measured / MIB;
    return report();
}
