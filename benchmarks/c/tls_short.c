/*
 * A load generator of full TLS handshakes: OpenSSL on non-blocking sockets and epoll.
 *
 * Each connection makes its handshake, without a session of before, and gets one byte and the goodbye of the server.
 * Then it says goodbye too, and makes room for the next.  The latency is that of all this, with that of the TCP
 * connection.
 */
#include "measure.h"
#include "tls.h"
#include <fcntl.h>
#include <sys/epoll.h>

enum { EVENTS = 1024 };
static const char GREETING = '!';

static struct {
    struct address address;
    int connections;
} option = {.connections = 16};

static struct slot {
    SSL *tls;
    uint64_t began_ns;
    bool greeted;
} *slots;

static SSL_CTX *context;
static int poller, open_slots;

static uint64_t number(const struct slot *slot) { return (uint64_t)(slot - slots); }

static void begin(struct slot *slot) {
    slot->began_ns = now_ns();
    slot->greeted = false;
    slot->tls = open_tls(context, &option.address, number(slot));
    int fd = SSL_get_fd(slot->tls);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    SSL_set_connect_state(slot->tls);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl: %m");
    open_slots++;
    SSL_do_handshake(slot->tls);
}

static void end(struct slot *slot) {
    if (SSL_session_reused(slot->tls)) complain(number(slot), 0, "the session was reused", 0);
    SSL_shutdown(slot->tls);
    close(SSL_get_fd(slot->tls));
    SSL_free(slot->tls);
    open_slots--;
    if (phase == MEASURING) {
        messages++;
        record(now_ns() - slot->began_ns);
    }
    if (phase != DRAINING && errors == 0) begin(slot);
}

static void advance(struct slot *slot) {
    char byte;
    int size = SSL_read(slot->tls, &byte, 1);
    if (size == 1 && (slot->greeted || byte != GREETING)) return complain(number(slot), 0, "content differs", 0);
    if (size == 1) {
        slot->greeted = true;
        return advance(slot);
    }
    int error = SSL_get_error(slot->tls, size);
    if (error == SSL_ERROR_WANT_READ) return;
    if (error != SSL_ERROR_ZERO_RETURN || !slot->greeted) return complain(number(slot), 0, "closed", 0);
    end(slot);
}

static bool go_on(void) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, 100);
    for (int i = 0; i < count && errors == 0; i++) advance(events[i].data.ptr);
    return errors == 0 && open_slots > 0;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: tls_short -a ADDRESS [-c CONNECTIONS] [-t SECONDS] [-w WARM_UP_SECONDS]";
    const char *address = NULL;
    for (int letter; (letter = getopt(argc, argv, "a:c:t:w:")) != -1;) {
        if (letter == 'a') address = optarg;
        else if (letter == 'c') option.connections = atoi(optarg);
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    if (!address || option.connections <= 0) die(usage);
    option.address = parse_address(address);
    poller = epoll_create1(EPOLL_CLOEXEC);
    slots = calloc((size_t)option.connections, sizeof *slots);
    if (!slots) die("out of memory");
    context = must_make_context();
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    for (int i = 0; i < option.connections; i++) begin(&slots[i]);
    measure(go_on);
    while (go_on());
    return report();
}
