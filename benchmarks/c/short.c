/*
 * A load generator of short connections on io_uring: each connects, sends one message, expects it back and then the end
 * of the stream, and makes room for the next.
 *
 * The server closes first; then this side disconnects its socket, which resets the connection, and connects it again.
 * For a server that is a short connection like any other, but to make, to close and to free a socket of its own for
 * each took this program half again as much CPU, so that it was busy before the servers were.  It also leaves nothing
 * in TIME_WAIT.
 *
 * What a connection does is one chain of linked operations, of which only the last one reports: it has received the
 * answer and the end, or whatever came before an error.  The latency is that of the whole connection.
 */
#include "measure.h"
#include "ring.h"

static struct {
    struct address address;
    int connections;
    size_t size;
} option = {.connections = 16, .size = 1024};

static struct slot {
    uint64_t offset, began_ns;
    unsigned char *received; /* has room for one byte more than a message: the receive ends at the end of the stream */
} *slots;

static int open_slots;
static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC}; /* to connect there is to disconnect */

static struct sqe *stage_for(const struct slot *slot, uint8_t opcode, const void *memory, size_t size) {
    struct sqe *sqe = stage();
    sqe->opcode = opcode;
    sqe->flags = SQE_FIXED_FILE;
    sqe->fd = (int32_t)(slot - slots); /* its place among the registered sockets */
    sqe->addr = (uintptr_t)memory;
    sqe->len = (uint32_t)size;
    sqe->user_data = (uint64_t)(slot - slots);
    return sqe;
}

static void stage_connect(const struct slot *slot, const struct sockaddr *address, socklen_t size) {
    struct sqe *connect = stage_for(slot, OP_CONNECT, address, 0);
    connect->off = size;
    connect->flags |= SQE_LINK | SQE_CQE_SKIP_SUCCESS;
}

static void begin(struct slot *slot, bool again) {
    slot->began_ns = now_ns();
    slot->offset += option.size;
    while (ring.staged > SQ_ENTRIES - 4) enter(0); /* a chain is submitted as a whole */
    if (again) stage_connect(slot, &nowhere, sizeof nowhere);
    stage_connect(slot, &option.address.any, option.address.size);
    struct sqe *send = stage_for(slot, OP_SEND, pattern_at((uint64_t)(slot - slots), slot->offset), option.size);
    send->flags |= SQE_LINK | SQE_CQE_SKIP_SUCCESS;
    send->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    struct sqe *receive = stage_for(slot, OP_RECV, slot->received, option.size + 1);
    receive->msg_flags = MSG_WAITALL;
    open_slots++;
}

/* What failed posts completions for all that was linked behind it: any of them ends the load, for an error
 * disqualifies. */
static void end(struct slot *slot, int result) {
    uint64_t index = (uint64_t)(slot - slots);
    open_slots--;
    if (result < 0) complain(index, slot->offset, "failed", -result);
    else if ((size_t)result != option.size)
        complain(index, slot->offset, (size_t)result < option.size ? "answer missing" : "too long an answer", 0);
    else if (memcmp(slot->received, pattern_at(index, slot->offset), option.size) != 0)
        complain(index, slot->offset, "content differs", 0);
    if (errors > 0 || phase == DRAINING) return;
    if (phase == MEASURING) {
        messages++;
        record(now_ns() - slot->began_ns);
    }
    begin(slot, true);
}

static bool go_on(void) {
    enter(1);
    uint32_t head = *ring.cq_head, tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail && errors == 0; head++) {
        struct cqe *cqe = &ring.cqes[head & ring.cq_mask];
        end(&slots[cqe->user_data], cqe->res);
    }
    __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
    return errors == 0 && open_slots > 0;
}

/* TCP_DEFER_ACCEPT has the last packet of a handshake wait for the message and travel with it, so that there is one
 * less. */
static void open_sockets(void) {
    int *fds = calloc((size_t)option.connections, sizeof *fds);
    if (!fds) die("out of memory");
    for (int i = 0; i < option.connections; i++) {
        fds[i] = socket(option.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fds[i] < 0) die("socket: %m");
        if (setsockopt(fds[i], IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){1}, sizeof(int)) < 0) die("TCP_DEFER_ACCEPT: %m");
    }
    if (syscall(SYS_REGISTER, ring.fd, REGISTER_FILES, fds, option.connections) < 0) die("registering sockets: %m");
    free(fds);
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: short -a ADDRESS [-c CONNECTIONS] [-s SIZE] [-t SECONDS] [-w WARM_UP_SECONDS]";
    const char *address = NULL;
    for (int letter; (letter = getopt(argc, argv, "a:c:s:t:w:")) != -1;) {
        if (letter == 'a') address = optarg;
        else if (letter == 'c') option.connections = atoi(optarg);
        else if (letter == 's') option.size = strtoul(optarg, NULL, 10);
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    if (!address || option.connections <= 0 || option.size == 0 || option.size > 1 << 20) die(usage);
    option.address = parse_address(address);
    if (option.address.any.sa_family != AF_INET) die("only a TCP socket can be connected again");
    open_ring();
    fill_pattern(option.size);
    slots = calloc((size_t)option.connections, sizeof *slots);
    if (!slots) die("out of memory");
    open_sockets();
    for (int i = 0; i < option.connections; i++) {
        slots[i].received = must_map(-1, option.size + 1, 0);
        begin(&slots[i], false);
    }
    measure(go_on);
    while (go_on());
    return report();
}
