/*
 * One connection over TLS on which much goes one way; its content is that of a file, over and over.
 *
 *     tls_bulk -a ADDRESS -f FILE -m push     sends without end; at last the server says how many bytes it got
 *     tls_bulk -a ADDRESS -f FILE -m pull     receives without end
 *
 * Blocking calls of one thread.  What is received is compared in one record of sixteen, for this side must not be
 * slower than the server.
 */
#include "bulk.h"
#include "tls.h"

enum { COMPARED = 16 };

static uint64_t reads;
static SSL *tls;

static bool counted(int size, const char *what) {
    if (size <= 0) return complain(0, total, what, 0), false;
    count((size_t)size);
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

static void ask_what_arrived(void) {
    uint64_t arrived;
    SSL_shutdown(tls);
    int size = SSL_read(tls, &arrived, sizeof arrived);
    check_what_arrived(arrived, size);
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: tls_bulk -a ADDRESS -f FILE -m push|pull [-t SECONDS] [-w WARM_UP_SECONDS]";
    static const char *const modes[] = {"push", "pull", NULL};
    static bool (*const turns[])(void) = {push, pull};
    struct address address;
    bool (*go_on)(void) = turns[prepare(argc, argv, usage, modes, &address)];
    SSL_CTX *context = must_make_context();
    SSL_CTX_set_default_read_buffer_len(context, CHUNK);
    tls = open_tls(context, &address, 0);
    unpaced(SSL_get_fd(tls), &address);
    if (SSL_connect(tls) != 1) die_of_tls(0);

    measure(go_on);
    if (go_on == push && errors == 0) ask_what_arrived();
    messages = measured / MIB;
    return report();
}
