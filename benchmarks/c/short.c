/*
 * A load generator of short connections on io_uring: each connects, sends one message, expects it back and then the end
 * of the stream, and makes room for the next.
 *
 * The server closes first, so that it is its side that stays in TIME_WAIT, and no port is used up here.  What a connection
 * does is one chain of linked operations, of which only the last one reports: it has received the answer and the end, or
 * whatever came before an error.  The latency is that of the whole connection.
 */
#include "measure.h"
#include "ring.h"

static struct {
    struct address address;
    int connections;
    size_t size;
} option = {.connections = 16, .size = 1024};

static struct slot {
    int fd;
    uint64_t offset, began_ns;
    unsigned char *received; /* has room for one byte more than a message: the receive ends at the end of the stream */
} *slots;

static int open_slots;

static struct sqe *stage_for(const struct slot *slot, uint8_t opcode, const void *memory, size_t size) {
    struct sqe *sqe = stage();
    sqe->opcode = opcode;
    sqe->fd = slot->fd;
    sqe->addr = (uintptr_t)memory;
    sqe->len = (uint32_t)size;
    sqe->user_data = (uint64_t)(slot - slots);
    return sqe;
}

static void begin(struct slot *slot) {
    slot->fd = socket(option.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (slot->fd < 0) die("socket: %m");
    slot->began_ns = now_ns();
    slot->offset += option.size;
    while (ring.staged > SQ_ENTRIES - 3) enter(0); /* a chain is submitted as a whole */
    struct sqe *connect = stage_for(slot, OP_CONNECT, &option.address.any, 0);
    connect->off = option.address.size;
    connect->flags = SQE_LINK | SQE_CQE_SKIP_SUCCESS;
    struct sqe *send = stage_for(slot, OP_SEND, pattern_at((uint64_t)(slot - slots), slot->offset), option.size);
    send->flags = SQE_LINK | SQE_CQE_SKIP_SUCCESS;
    send->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    struct sqe *receive = stage_for(slot, OP_RECV, slot->received, option.size + 1);
    receive->msg_flags = MSG_WAITALL;
    open_slots++;
}

/* What failed posts completions for all that was linked behind it: any of them ends the load, for an error disqualifies. */
static void end(struct slot *slot, int result) {
    uint64_t index = (uint64_t)(slot - slots);
    close(slot->fd);
    open_slots--;
    if (result < 0)
        complain(index, slot->offset, "failed", -result);
    else if ((size_t)result != option.size)
        complain(index, slot->offset, (size_t)result < option.size ? "answer missing" : "too long an answer", 0);
    else if (memcmp(slot->received, pattern_at(index, slot->offset), option.size) != 0)
        complain(index, slot->offset, "content differs", 0);
    if (errors > 0 || phase == DRAINING) return;
    if (phase == MEASURING) {
        messages++;
        record(now_ns() - slot->began_ns);
    }
    begin(slot);
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
    open_ring();
    fill_pattern(option.size);
    slots = calloc((size_t)option.connections, sizeof *slots);
    if (!slots) die("out of memory");
    for (int i = 0; i < option.connections; i++) {
        slots[i].received = must_map(-1, option.size + 1, 0);
        begin(&slots[i]);
    }
    measure(go_on);
    while (go_on());
    return report();
}
