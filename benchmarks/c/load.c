/*
 * An echo load generator on io_uring, over TCP, unix sockets or UDP: every connection keeps a number of messages
 * outstanding at a server, and every byte that comes back is compared with what was sent.
 *
 * A generator on epoll is exhausted before the fast servers are, and then all of them look alike.  So this one uses
 * what costs least in the kernel: one multishot receive per connection into a ring of shared buffers, sends that post
 * no completion unless they fail, registered sockets, a registered ring.
 *
 * A connection's content is an endless stream: a window that slides over one random pattern, and that starts at another
 * place for each connection.  Bytes lost, doubled, reordered or misdirected never match.  Over UDP (-u) each message is
 * a datagram of its own, and a lost one counts as an error like any other loss.
 *
 * It writes "begin" and "end" to stderr around the measured time, and one line of JSON to stdout.
 */
#include "measure.h"
#include "ring.h"

enum {
    OUTSTANDING_TCP = 256 << 10, /* bytes; a loopback socket's send buffer has room for 2.5 MiB */
    OUTSTANDING_UNIX = 64 << 10, /* of 208 KiB, which count the kernel's own structures too */
    BUFFERS_LIMIT = 8 << 20,
    DRAIN_NS = 2000 * 1000 * 1000,
};

struct connection {
    int fd;
    bool broken;
    uint64_t sent_bytes, received_bytes;
    uint64_t sending_bytes, queued; /* in sends that report; messages that wait for them */
    uint64_t *sent_at_ns;           /* of the outstanding messages, by message number modulo depth */
};

static struct {
    struct address address;
    int connections, depth;
    bool datagrams;
    bool in_turn; /* one send at a time on a connection, because more might not find room */
    size_t size;
} option = {.connections = 1, .depth = 1, .size = 1024};

static struct connection *connections;
static uint64_t outstanding;
static int alive;

/* Few buffers do, for each goes back as soon as it is compared, and few stay in the cache. */
static void choose_buffers(void) {
    uint32_t size = 4096, count = 64;
    while (size < option.size * (size_t)option.depth && size < 65536) size *= 2;
    while (count < 2u * (unsigned)option.connections && count * size < BUFFERS_LIMIT) count *= 2;
    open_buffers(count, size);
}

static const unsigned char *content(const struct connection *c, uint64_t offset) {
    return pattern_at((uint64_t)(c - connections), offset);
}

static void fail(struct connection *c, const char *what, int error) {
    if (c->broken) return;
    complain((uint64_t)(c - connections), c->received_bytes, what, error);
    c->broken = true;
    alive--;
    outstanding -= c->sent_bytes / option.size + c->queued - c->received_bytes / option.size;
    shutdown(c->fd, SHUT_RDWR);
}

static void arm_receive(struct connection *c) {
    struct sqe *sqe = stage();
    sqe->opcode = OP_RECV;
    sqe->flags = SQE_BUFFER_SELECT | SQE_FIXED_FILE;
    sqe->ioprio = RECV_MULTISHOT;
    sqe->fd = (int32_t)(c - connections);
    sqe->user_data = (uint64_t)(c - connections) << 1;
}

static void stage_send(struct connection *c, size_t size) {
    struct sqe *sqe = stage();
    sqe->opcode = OP_SEND;
    sqe->flags = SQE_FIXED_FILE | (option.in_turn ? 0 : SQE_CQE_SKIP_SUCCESS);
    sqe->fd = (int32_t)(c - connections);
    sqe->addr = (uintptr_t)content(c, c->sent_bytes);
    sqe->len = (uint32_t)size;
    sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    sqe->user_data = (uint64_t)(c - connections) << 1 | 1;
    c->sent_bytes += size;
    if (option.in_turn) c->sending_bytes = size;
}

/*
 * A send that finds no room waits in the kernel, and a later one could overtake it.  Where that can happen each send
 * reports its end and the next one waits for it; it cannot where all that is outstanding fits into the send buffer.
 */
static void send_messages(struct connection *c, uint64_t count, uint64_t now) {
    uint64_t first = c->sent_bytes / option.size + c->queued;
    for (uint64_t i = first; i < first + count; i++) c->sent_at_ns[i % (uint64_t)option.depth] = now;
    outstanding += count;
    if (c->sending_bytes > 0) c->queued += count;
    else if (option.datagrams)
        for (uint64_t i = 0; i < count; i++) stage_send(c, option.size);
    else stage_send(c, count * option.size);
}

static void sent(struct connection *c, int result) {
    if (result < 0 || (size_t)result != c->sending_bytes) return fail(c, "send", result < 0 ? -result : EPIPE);
    uint64_t count = c->queued;
    c->sending_bytes = c->queued = 0;
    if (count > 0 && !c->broken) stage_send(c, count * option.size);
}

static void take(struct connection *c, const unsigned char *data, size_t length, uint64_t now) {
    if (c->received_bytes + length > c->sent_bytes) return fail(c, "more came back than was sent", 0);
    if (memcmp(data, content(c, c->received_bytes), length) != 0) return fail(c, "content differs", 0);
    uint64_t first = c->received_bytes / option.size;
    c->received_bytes += length;
    uint64_t count = c->received_bytes / option.size - first;
    outstanding -= count;
    if (phase == MEASURING) {
        messages += count;
        for (uint64_t i = first; i < first + count; i++) record(now - c->sent_at_ns[i % (uint64_t)option.depth]);
    }
    if (phase != DRAINING && count > 0) send_messages(c, count, now);
}

static void dispatch(const struct cqe *cqe, uint64_t now) {
    struct connection *c = &connections[cqe->user_data >> 1];
    if (cqe->user_data & 1) return sent(c, cqe->res);
    if (cqe->flags & CQE_BUFFER) {
        uint16_t id = (uint16_t)(cqe->flags >> CQE_BUFFER_SHIFT);
        if (!c->broken) take(c, buffer_memory(id), (size_t)cqe->res, now);
        recycle(id);
    }
    if (cqe->res == 0) fail(c, "closed by the server", 0);
    else if (cqe->res < 0 && cqe->res != -ENOBUFS) fail(c, "receive", -cqe->res);
    else if (!(cqe->flags & CQE_MORE) && !c->broken)
        arm_receive(c); /* also after ENOBUFS: the bytes stayed in the socket */
}

/* The clock is read once a turn, after the wait: a latency includes our own work until the next submit. */
static void turn(void) {
    enter(1);
    uint64_t now = now_ns();
    uint32_t head = *ring.cq_head, tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) dispatch(&ring.cqes[head & ring.cq_mask], now);
    __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
}

static void connect_all(void) {
    struct address *address = &option.address;
    int *fds = calloc((size_t)option.connections, sizeof *fds);
    connections = calloc((size_t)option.connections, sizeof *connections);
    if (!connections || !fds) die("out of memory");
    for (int i = 0; i < option.connections; i++) {
        struct connection *c = &connections[i];
        c->sent_at_ns = calloc((size_t)option.depth, sizeof *c->sent_at_ns);
        int type = (option.datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC;
        c->fd = fds[i] = socket(address->any.sa_family, type, 0);
        if (!c->sent_at_ns || c->fd < 0) die("connection %d: %m", i);
        if (connect(c->fd, &address->any, address->size) < 0) die("connection %d: %m", i);
        if (!option.datagrams) no_delay(c->fd, address);
    }
    if (syscall(SYS_REGISTER, ring.fd, REGISTER_FILES, fds, option.connections) < 0) die("registering sockets: %m");
    free(fds);
    alive = option.connections;
}

static bool go_on(void) {
    turn();
    return alive > 0;
}

/* Lost bytes with nothing behind them leave no trace in the content: they are what is missing in the end. */
static void drain(void) {
    for (uint64_t deadline = now_ns() + DRAIN_NS; outstanding > 0 && now_ns() < deadline;) turn();
    for (int i = 0; i < option.connections; i++) {
        struct connection *c = &connections[i];
        if (c->received_bytes < c->sent_bytes) fail(c, "answer missing", 0);
    }
}

static void read_options(int argc, char **argv) {
    static const char usage[] =
        "usage: load -a ADDRESS [-u] [-c CONNECTIONS] [-s SIZE] [-d DEPTH] [-t SECONDS] [-w WARM_UP_SECONDS]";
    const char *address = NULL;
    for (int letter; (letter = getopt(argc, argv, "a:c:s:d:t:w:u")) != -1;) {
        if (letter == 'a') address = optarg;
        else if (letter == 'c') option.connections = atoi(optarg);
        else if (letter == 's') option.size = strtoul(optarg, NULL, 10);
        else if (letter == 'd') option.depth = atoi(optarg);
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else if (letter == 'u') option.datagrams = true;
        else die(usage);
    }
    if (!address || option.connections <= 0 || option.depth <= 0) die(usage);
    if (option.size == 0 || option.size > (1u << 30) / (size_t)option.depth) die(usage);
    option.address = parse_address(address);
    size_t room = option.address.any.sa_family == AF_UNIX ? OUTSTANDING_UNIX : OUTSTANDING_TCP;
    option.in_turn = !option.datagrams && option.depth > 1 && option.size > room / (size_t)option.depth;
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    open_ring();
    choose_buffers();
    size_t outstanding_max = option.size * (size_t)option.depth;
    fill_pattern(outstanding_max > buffers.size ? outstanding_max : buffers.size);
    connect_all();
    for (int i = 0; i < option.connections; i++) {
        arm_receive(&connections[i]);
        send_messages(&connections[i], (uint64_t)option.depth, now_ns());
    }
    measure(go_on);
    drain();
    return report();
}
