/*
 * An echo load generator over TLS: OpenSSL on non-blocking sockets and epoll, one message outstanding on each
 * connection.
 *
 * Encrypting costs so much more than a system call that epoll does here.
 */
#include "tls.h"
#include "measure.h"
#include <fcntl.h>
#include <sys/epoll.h>

enum { EVENTS = 1024 };

static struct {
    struct address address;
    int connections;
    size_t size;
} option = {.connections = 1, .size = 1024};

static struct connection {
    SSL *tls;
    uint64_t offset, sent_at_ns;
    size_t received;
    bool outstanding;
} *connections;

static unsigned char *answer;
static int poller, outstanding;

static uint64_t number(const struct connection *c) { return (uint64_t)(c - connections); }

static void send_message(struct connection *c) {
    c->sent_at_ns = now_ns();
    c->received = 0;
    if (SSL_write(c->tls, pattern_at(number(c), c->offset), (int)option.size) != (int)option.size)
        complain(number(c), c->offset, "send", errno);
    else if (!c->outstanding) outstanding++;
    c->outstanding = true;
}

static void receive(struct connection *c) {
    int size = SSL_read(c->tls, answer, (int)(option.size - c->received));
    if (size <= 0) {
        if (SSL_get_error(c->tls, size) != SSL_ERROR_WANT_READ) complain(number(c), c->offset, "closed", 0);
        return;
    }
    if (memcmp(answer, pattern_at(number(c), c->offset + c->received), (size_t)size) != 0)
        complain(number(c), c->offset, "content differs", 0);
    c->received += (size_t)size;
    if (c->received < option.size) return receive(c);
    if (phase == MEASURING) {
        messages++;
        record(now_ns() - c->sent_at_ns);
    }
    c->offset += option.size;
    if (phase != DRAINING) return send_message(c);
    c->outstanding = false;
    outstanding--;
}

static bool go_on(void) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, 100);
    for (int i = 0; i < count && errors == 0; i++) receive(events[i].data.ptr);
    return errors == 0 && outstanding > 0;
}

static void connect_one(struct connection *c, SSL_CTX *context) {
    c->tls = open_tls(context, &option.address, number(c));
    if (SSL_connect(c->tls) != 1) die_of_tls(number(c));
    int fd = SSL_get_fd(c->tls);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl: %m");
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: tls -a ADDRESS [-c CONNECTIONS] [-s SIZE] [-t SECONDS] [-w WARM_UP_SECONDS]";
    const char *address = NULL;
    for (int letter; (letter = getopt(argc, argv, "a:c:s:t:w:")) != -1;) {
        if (letter == 'a') address = optarg;
        else if (letter == 'c') option.connections = atoi(optarg);
        else if (letter == 's') option.size = strtoul(optarg, NULL, 10);
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    if (!address || option.connections <= 0 || option.size == 0 || option.size > 64 << 10) die(usage);
    option.address = parse_address(address);
    fill_pattern(option.size);
    answer = must_map(-1, option.size, 0);
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc((size_t)option.connections, sizeof *connections);
    SSL_CTX *context = must_make_context();
    if (!connections) die("out of memory");
    for (int i = 0; i < option.connections; i++) connect_one(&connections[i], context);
    for (int i = 0; i < option.connections; i++) send_message(&connections[i]);
    measure(go_on);
    while (go_on());
    return report();
}
