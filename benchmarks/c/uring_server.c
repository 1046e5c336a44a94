/*
 * The limit for loops on io_uring: an echo server that does nothing else.
 *
 *     uring_server ADDRESS
 *
 * One multishot accept, one multishot receive per connection, buffers shared by all.  An answer is sent from the buffer
 * that it arrived in, at most one at a time on a connection, by a send that posts no completion where it succeeds at
 * once: MSG_DONTWAIT makes it report what it could not do instead of waiting.  Only then does a connection queue: the
 * rest and what arrives meanwhile is sent by sends that wait and report, one after the other.
 */
#include "ring.h"

enum { FDS = 1 << 16, BUFFER_SIZE = 16 << 10, BUFFER_COUNT = 4096 };
enum { ACCEPT, RECEIVE, SEND }; /* what a completion is of: user_data is the descriptor << 2 and this */

struct piece {
    uint16_t next; /* in the queue of the connection; NONE ends it */
    uint32_t start, end;
};
enum { NONE = UINT16_MAX };

static struct connection {
    uint16_t first, last; /* pieces not yet sent, by buffer id; the first is being sent */
    uint16_t hopeful;     /* sent in this turn by a send that reports failure only */
    bool receiving, ended;
} connections[FDS];

static struct piece pieces[BUFFER_COUNT];
static int hopefuls[BUFFER_COUNT], hopeful_count, starved[FDS], starved_count;
static struct address address;

static void arm_accept(int listener) {
    struct sqe *sqe = stage();
    sqe->opcode = OP_ACCEPT;
    sqe->ioprio = ACCEPT_MULTISHOT;
    sqe->fd = listener;
    sqe->msg_flags = SOCK_CLOEXEC;
    sqe->user_data = (uint64_t)listener << 2 | ACCEPT;
}

static void arm_receive(int fd) {
    struct sqe *sqe = stage();
    sqe->opcode = OP_RECV;
    sqe->flags = SQE_BUFFER_SELECT;
    sqe->ioprio = RECV_MULTISHOT;
    sqe->fd = fd;
    sqe->user_data = (uint64_t)fd << 2 | RECEIVE;
    connections[fd].receiving = true;
}

static void stage_send(int fd, uint16_t id, bool waits) {
    struct sqe *sqe = stage();
    sqe->opcode = OP_SEND;
    sqe->flags = waits ? 0 : SQE_CQE_SKIP_SUCCESS;
    sqe->fd = fd;
    sqe->addr = (uintptr_t)(buffer_memory(id) + pieces[id].start);
    sqe->len = pieces[id].end - pieces[id].start;
    sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL | (waits ? 0 : MSG_DONTWAIT);
    sqe->user_data = (uint64_t)fd << 2 | SEND;
}

static void close_if_done(int fd) {
    struct connection *c = &connections[fd];
    if (c->ended && !c->receiving && c->first == NONE && c->hopeful == NONE) close(fd);
}

static void answer(int fd, uint16_t id, uint32_t size) {
    struct connection *c = &connections[fd];
    pieces[id] = (struct piece){.next = NONE, .end = size};
    if (c->first == NONE && c->hopeful == NONE) {
        c->hopeful = id;
        hopefuls[hopeful_count++] = fd;
        stage_send(fd, id, false);
    } else if (c->first == NONE) {
        c->first = c->last = id; /* behind the hopeful one */
    } else {
        pieces[c->last].next = id;
        c->last = id;
    }
}

static void forget_queue(int fd) {
    struct connection *c = &connections[fd];
    for (; c->first != NONE; c->first = pieces[c->first].next) recycle(c->first);
    if (!c->ended) shutdown(fd, SHUT_RDWR);
    c->ended = true;
}

static void sent(int fd, int result) {
    struct connection *c = &connections[fd];
    uint16_t id = c->hopeful != NONE ? c->hopeful : c->first;
    bool was_hopeful = c->hopeful != NONE;
    c->hopeful = NONE;
    if (was_hopeful) { /* into the queue, at its head */
        pieces[id].next = c->first;
        if (c->first == NONE) c->last = id;
        c->first = id;
    }
    if (result < 0 && result != -EAGAIN) {
        forget_queue(fd);
    } else {
        pieces[id].start += result > 0 ? (uint32_t)result : 0;
        if (pieces[id].start == pieces[id].end) {
            c->first = pieces[id].next;
            recycle(id);
        }
        if (c->first != NONE) stage_send(fd, c->first, true);
    }
    close_if_done(fd);
}

/* Every send that hoped was submitted, and those that failed have said so. */
static void settle_hopefuls(int count) {
    for (int i = 0; i < count; i++) {
        int fd = hopefuls[i];
        struct connection *c = &connections[fd];
        if (c->hopeful == NONE) continue;
        recycle(c->hopeful);
        c->hopeful = NONE;
        if (c->first != NONE) stage_send(fd, c->first, true);
        close_if_done(fd);
    }
    hopeful_count -= count;
    memmove(hopefuls, hopefuls + count, (size_t)hopeful_count * sizeof *hopefuls);
}

static void accepted(int fd) {
    if (fd >= FDS) die("too many connections");
    no_delay(fd, &address);
    connections[fd] = (struct connection){.first = NONE, .hopeful = NONE};
    arm_receive(fd);
}

static void received(int fd, const struct cqe *cqe) {
    struct connection *c = &connections[fd];
    if (!(cqe->flags & CQE_MORE)) c->receiving = false;
    if (cqe->res > 0) answer(fd, (uint16_t)(cqe->flags >> CQE_BUFFER_SHIFT), (uint32_t)cqe->res);
    else if (cqe->flags & CQE_BUFFER) recycle((uint16_t)(cqe->flags >> CQE_BUFFER_SHIFT));
    if (cqe->res == 0 || (cqe->res < 0 && cqe->res != -ENOBUFS)) c->ended = true;
    else if (!c->receiving) starved[starved_count++] = fd;
    close_if_done(fd);
}

static void dispatch(const struct cqe *cqe) {
    int fd = (int)(cqe->user_data >> 2);
    switch (cqe->user_data & 3) {
    case ACCEPT:
        if (cqe->res >= 0) accepted(cqe->res);
        if (!(cqe->flags & CQE_MORE)) arm_accept(fd);
        break;
    case RECEIVE: received(fd, cqe); break;
    case SEND: sent(fd, cqe->res); break;
    }
}

/*
 * A send's failure is posted while it is submitted, so it is among the completions that are there after enter, before
 * whatever else happened on that connection: what hoped in the turn before is settled first, except where it failed.
 */
static void turn(void) {
    enter(1);
    int hoped = ring.staged == 0 ? hopeful_count : 0;
    uint32_t head = *ring.cq_head, tail = __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE);
    for (uint32_t i = head; hoped > 0 && i != tail; i++) {
        struct cqe *cqe = &ring.cqes[i & ring.cq_mask];
        if ((cqe->user_data & 3) == SEND && connections[cqe->user_data >> 2].hopeful != NONE) {
            dispatch(cqe);
            cqe->user_data = 3; /* done */
        }
    }
    settle_hopefuls(hoped);
    for (; head != tail; head++) dispatch(&ring.cqes[head & ring.cq_mask]);
    __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
    for (; starved_count > 0; starved_count--) arm_receive(starved[starved_count - 1]);
}

int main(int argc, char **argv) {
    if (argc != 2) die("usage: uring_server ADDRESS");
    address = parse_address(argv[1]);
    open_ring();
    open_buffers(BUFFER_COUNT, BUFFER_SIZE);
    arm_accept(listen_at(argv[1], 0));
    for (;;) turn();
}
