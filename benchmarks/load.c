/*
 * A TCP or UDP load generator on io_uring: every connection keeps a number of messages outstanding at an echo
 * server, and every byte that comes back is compared with what was sent.
 *
 * A generator on epoll is exhausted before the fast servers are, and then all of them look alike. So this
 * one uses what costs least in the kernel: one multishot receive per connection into a ring of shared
 * buffers, and sends that post no completion unless they fail. It declares the part of the io_uring
 * interface that it uses, because the headers of distributions are years behind the kernels they run on.
 * It needs Linux 6.1.
 *
 * A connection's content is an endless stream: a window that slides over one random pattern, and that
 * starts at another place for each connection. Bytes lost, doubled, reordered or misdirected never match.
 * Over UDP (-u) each message is a datagram of its own, and a lost one counts as an error like any other loss.
 *
 * It writes "begin" and "end" to stderr around the measured time, and one line of JSON to stdout.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SYS_SETUP = 425, SYS_ENTER = 426, SYS_REGISTER = 427 };
enum { OP_SEND = 26, OP_RECV = 27 };
enum { SQE_BUFFER_SELECT = 1 << 5, SQE_CQE_SKIP_SUCCESS = 1 << 6 };
enum { SETUP_CQSIZE = 1 << 3, SETUP_SUBMIT_ALL = 1 << 7 };
enum { SETUP_SINGLE_ISSUER = 1 << 12, SETUP_DEFER_TASKRUN = 1 << 13 };
enum { ENTER_GETEVENTS = 1 << 0, ENTER_EXT_ARG = 1 << 3 };
enum { CQE_BUFFER = 1 << 0, CQE_MORE = 1 << 1, CQE_BUFFER_SHIFT = 16 };
enum { RECV_MULTISHOT = 1 << 1, REGISTER_BUFFER_RING = 22 };
#define OFFSET_SQ_RING 0
#define OFFSET_SQES 0x10000000

struct sqe {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off, addr;
    uint32_t len, msg_flags;
    uint64_t user_data;
    uint16_t buffer_group, personality;
    uint32_t file_index;
    uint64_t unused[2];
};

struct cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct ring_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
    struct {
        uint32_t head, tail, mask, entries, flags, dropped, array, reserved;
        uint64_t user_addr;
    } sq;
    struct {
        uint32_t head, tail, mask, entries, overflow, cqes, flags, reserved;
        uint64_t user_addr;
    } cq;
};

struct buffer {
    uint64_t addr;
    uint32_t len;
    uint16_t id;
    uint16_t tail; /* of the whole ring, in the first entry only */
};

struct buffer_ring_registration {
    uint64_t addr;
    uint32_t entries;
    uint16_t group, flags;
    uint64_t reserved[3];
};

struct wait_argument {
    uint64_t sigmask;
    uint32_t sigmask_size, reserved;
    uint64_t timeout;
};

_Static_assert(sizeof(struct sqe) == 64, "sqe");
_Static_assert(sizeof(struct cqe) == 16, "cqe");
_Static_assert(sizeof(struct ring_params) == 120, "ring_params");
_Static_assert(sizeof(struct buffer) == 16, "buffer");
_Static_assert(sizeof(struct buffer_ring_registration) == 40, "buffer_ring_registration");
_Static_assert(sizeof(struct wait_argument) == 24, "wait_argument");

enum {
    SQ_ENTRIES = 4096,
    CQ_ENTRIES = 16384,
    PATTERN_PERIOD = 65521,        /* a prime: successive messages differ, whatever their size */
    OUTSTANDING_LIMIT = 256 << 10, /* bytes; a loopback socket's send buffer has room for 2.5 MiB */
    BUFFERS_LIMIT = 8 << 20,
    HISTOGRAM_SLOTS = 2048,
    TURN_NS = 10 * 1000 * 1000,
    DRAIN_NS = 2000 * 1000 * 1000,
};

struct connection {
    int fd;
    bool broken;
    uint64_t sent_bytes, received_bytes;
    uint64_t *sent_at_ns; /* of the outstanding messages, by message number modulo depth */
};

static struct {
    int port, connections, depth;
    bool datagrams;
    size_t size;
    double seconds, warmup;
} option = {.connections = 1, .depth = 1, .size = 1024, .seconds = 2.0, .warmup = 0.5};

static struct {
    int fd;
    struct sqe *sqes;
    struct cqe *cqes;
    uint32_t *sq_tail, *cq_head, *cq_tail;
    uint32_t cq_mask, tail, staged;
} ring;

static struct {
    struct buffer *ring;
    unsigned char *memory;
    uint32_t size, count;
    uint16_t tail;
} buffers;

static enum { WARMING, MEASURING, DRAINING } phase;
static struct connection *connections;
static unsigned char *pattern;
static uint64_t messages, outstanding, errors, histogram[HISTOGRAM_SLOTS];
static int alive;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static void *must_map(int fd, size_t size, off_t offset) {
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);
    if (memory == MAP_FAILED) die("mmap of %zu bytes: %m", size);
    return memory;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void open_ring(void) {
    struct ring_params params = {
        .flags = SETUP_CQSIZE | SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN,
        .cq_entries = CQ_ENTRIES,
    };
    ring.fd = (int)syscall(SYS_SETUP, SQ_ENTRIES, &params);
    if (ring.fd < 0) die("io_uring_setup: %m (the load generator needs io_uring of Linux 6.1)");

    size_t sq_size = params.sq.array + params.sq_entries * sizeof(uint32_t);
    size_t cq_size = params.cq.cqes + params.cq_entries * sizeof(struct cqe);
    unsigned char *base = must_map(ring.fd, sq_size > cq_size ? sq_size : cq_size, OFFSET_SQ_RING);
    ring.sqes = must_map(ring.fd, params.sq_entries * sizeof(struct sqe), OFFSET_SQES);
    ring.cqes = (struct cqe *)(base + params.cq.cqes);
    ring.sq_tail = (uint32_t *)(base + params.sq.tail);
    ring.cq_head = (uint32_t *)(base + params.cq.head);
    ring.cq_tail = (uint32_t *)(base + params.cq.tail);
    ring.cq_mask = params.cq_entries - 1;
    uint32_t *array = (uint32_t *)(base + params.sq.array);
    for (uint32_t i = 0; i < params.sq_entries; i++) array[i] = i;
}

/* Submits what is staged and waits until `wait_for` completions are there, or a short while. */
static void enter(unsigned wait_for) {
    struct timespec timeout = {.tv_nsec = TURN_NS};
    struct wait_argument argument = {.timeout = (uintptr_t)&timeout};
    __atomic_store_n(ring.sq_tail, ring.tail, __ATOMIC_RELEASE);
    int flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
    long submitted = syscall(SYS_ENTER, ring.fd, ring.staged, wait_for, flags, &argument, sizeof argument);
    if (submitted >= 0)
        ring.staged -= (uint32_t)submitted;
    else if (errno != ETIME && errno != EINTR && errno != EAGAIN && errno != EBUSY)
        die("io_uring_enter: %m");
}

static struct sqe *stage(void) {
    while (ring.staged == SQ_ENTRIES) enter(0);
    ring.staged++;
    struct sqe *sqe = &ring.sqes[ring.tail++ & (SQ_ENTRIES - 1)];
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

static void recycle(uint16_t id) {
    struct buffer *entry = &buffers.ring[buffers.tail++ & (buffers.count - 1)];
    entry->addr = (uintptr_t)(buffers.memory + (size_t)id * buffers.size);
    entry->len = buffers.size;
    entry->id = id;
    __atomic_store_n(&buffers.ring->tail, buffers.tail, __ATOMIC_RELEASE);
}

/* Few buffers do, for each goes back as soon as it is compared, and few stay in the cache. */
static void open_buffers(void) {
    buffers.size = 4096;
    while (buffers.size < option.size * (size_t)option.depth && buffers.size < 65536) buffers.size *= 2;
    buffers.count = 64;
    while (buffers.count < 2u * (unsigned)option.connections && buffers.count * buffers.size < BUFFERS_LIMIT)
        buffers.count *= 2;
    buffers.memory = must_map(-1, (size_t)buffers.count * buffers.size, 0);
    buffers.ring = must_map(-1, buffers.count * sizeof(struct buffer), 0);
    struct buffer_ring_registration group = {.addr = (uintptr_t)buffers.ring, .entries = buffers.count};
    if (syscall(SYS_REGISTER, ring.fd, REGISTER_BUFFER_RING, &group, 1) < 0) die("buffer ring: %m");
    for (uint32_t id = 0; id < buffers.count; id++) recycle((uint16_t)id);
}

/* Latencies are counted in 32 slots for each power of two, so a slot is at most 3 % wide. */
static void record(uint64_t latency_ns) {
    int shift = latency_ns < 64 ? 0 : 58 - __builtin_clzll(latency_ns);
    histogram[shift * 32 + (int)(latency_ns >> shift)]++;
}

static double percentile_us(double share) {
    uint64_t rank = (uint64_t)(share * (double)messages), seen = 0;
    int slot = 0;
    if (messages == 0) return 0;
    while ((seen += histogram[slot]) <= rank) slot++;
    int shift = slot < 64 ? 0 : slot / 32 - 1;
    return (double)((uint64_t)(slot - shift * 32) << shift) / 1000.0;
}

static const unsigned char *content(const struct connection *c, uint64_t offset) {
    return pattern + ((uint64_t)(c - connections) * 7919 + offset) % PATTERN_PERIOD;
}

static void fill_pattern(void) {
    size_t longest = option.size * (size_t)option.depth;
    size_t size = PATTERN_PERIOD + (longest > buffers.size ? longest : buffers.size);
    uint64_t state = 88172645463325252u; /* xorshift64 */
    pattern = must_map(-1, size, 0);
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        pattern[i] = i < PATTERN_PERIOD ? (unsigned char)(state >> 32) : pattern[i - PATTERN_PERIOD];
    }
}

static void fail(struct connection *c, const char *what, int error) {
    if (c->broken) return;
    if (errors++ < 5) {
        fprintf(stderr, "connection %td, byte %ju: %s", c - connections, (uintmax_t)c->received_bytes, what);
        fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
    }
    c->broken = true;
    alive--;
    outstanding -= c->sent_bytes / option.size - c->received_bytes / option.size;
    shutdown(c->fd, SHUT_RDWR);
}

static void arm_receive(struct connection *c) {
    struct sqe *sqe = stage();
    sqe->opcode = OP_RECV;
    sqe->flags = SQE_BUFFER_SELECT;
    sqe->ioprio = RECV_MULTISHOT;
    sqe->fd = c->fd;
    sqe->user_data = (uint64_t)(c - connections) << 1;
}

/*
 * A send that finds no room waits in the kernel, and a later one could overtake it unseen. It cannot happen
 * here, for read_options sees to it that what is outstanding is one message or fits into the send buffer.
 */
static void send_messages(struct connection *c, uint64_t count, uint64_t now) {
    uint64_t first = c->sent_bytes / option.size;
    for (uint64_t i = first; i < first + count; i++) c->sent_at_ns[i % (uint64_t)option.depth] = now;
    for (uint64_t sends = option.datagrams ? count : 1, size = count / sends * option.size; sends > 0; sends--) {
        struct sqe *sqe = stage();
        sqe->opcode = OP_SEND;
        sqe->flags = SQE_CQE_SKIP_SUCCESS;
        sqe->fd = c->fd;
        sqe->addr = (uintptr_t)content(c, c->sent_bytes);
        sqe->len = (uint32_t)size;
        sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
        sqe->user_data = (uint64_t)(c - connections) << 1 | 1;
        c->sent_bytes += size;
    }
    outstanding += count;
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
        for (uint64_t i = first; i < first + count; i++)
            record(now - c->sent_at_ns[i % (uint64_t)option.depth]);
    }
    if (phase != DRAINING && count > 0) send_messages(c, count, now);
}

static void dispatch(const struct cqe *cqe, uint64_t now) {
    struct connection *c = &connections[cqe->user_data >> 1];
    if (cqe->user_data & 1) return fail(c, "send", cqe->res < 0 ? -cqe->res : EPIPE);
    if (cqe->flags & CQE_BUFFER) {
        uint16_t id = (uint16_t)(cqe->flags >> CQE_BUFFER_SHIFT);
        if (!c->broken) take(c, buffers.memory + (size_t)id * buffers.size, (size_t)cqe->res, now);
        recycle(id);
    }
    if (cqe->res == 0)
        fail(c, "closed by the server", 0);
    else if (cqe->res < 0 && cqe->res != -ENOBUFS)
        fail(c, "receive", -cqe->res);
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
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connections = calloc((size_t)option.connections, sizeof *connections);
    if (!connections) die("out of memory");
    for (int i = 0; i < option.connections; i++) {
        struct connection *c = &connections[i];
        c->sent_at_ns = calloc((size_t)option.depth, sizeof *c->sent_at_ns);
        c->fd = socket(AF_INET, (option.datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
        if (!c->sent_at_ns || c->fd < 0) die("connection %d: %m", i);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) die("connection %d: %m", i);
        if (!option.datagrams) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    alive = option.connections;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t run_for(double seconds) {
    uint64_t start = now_ns(), deadline = start + (uint64_t)(seconds * 1e9), now = start;
    while (alive > 0 && now < deadline) {
        turn();
        now = now_ns();
    }
    return now - start + 1; /* a divisor, and all connections may have failed before */
}

/* Lost bytes with nothing behind them leave no trace in the content: they are what is missing in the end. */
static void drain(void) {
    phase = DRAINING;
    for (uint64_t deadline = now_ns() + DRAIN_NS; outstanding > 0 && now_ns() < deadline;) turn();
    for (int i = 0; i < option.connections; i++) {
        struct connection *c = &connections[i];
        if (c->received_bytes < c->sent_bytes) fail(c, "answer missing", 0);
    }
}

static void read_options(int argc, char **argv) {
    static const char usage[] =
        "usage: load -p PORT [-u] [-c CONNECTIONS] [-s SIZE] [-d DEPTH] [-t SECONDS] [-w WARM_UP_SECONDS]";
    for (int letter; (letter = getopt(argc, argv, "p:c:s:d:t:w:u")) != -1;) {
        if (letter == 'p') option.port = atoi(optarg);
        else if (letter == 'c') option.connections = atoi(optarg);
        else if (letter == 's') option.size = strtoul(optarg, NULL, 10);
        else if (letter == 'd') option.depth = atoi(optarg);
        else if (letter == 't') option.seconds = atof(optarg);
        else if (letter == 'w') option.warmup = atof(optarg);
        else if (letter == 'u') option.datagrams = true;
        else die(usage);
    }
    if (option.port <= 0 || option.connections <= 0 || option.depth <= 0) die(usage);
    if (option.size == 0 || option.size > 1 << 30) die(usage);
    if (option.depth > 1 && option.size > (size_t)(OUTSTANDING_LIMIT / option.depth))
        die("more than one message outstanding: size times depth must not exceed %d", OUTSTANDING_LIMIT);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    open_ring();
    open_buffers();
    fill_pattern();
    connect_all();
    for (int i = 0; i < option.connections; i++) {
        arm_receive(&connections[i]);
        send_messages(&connections[i], (uint64_t)option.depth, now_ns());
    }
    run_for(option.warmup);

    phase = MEASURING;
    fputs("begin\n", stderr);
    double cpu_before = cpu_seconds();
    double seconds = (double)run_for(option.seconds) / 1e9;
    double busy = (cpu_seconds() - cpu_before) / seconds;
    fputs("end\n", stderr);

    drain();
    double rate = (double)messages / seconds, p50 = percentile_us(0.50), p99 = percentile_us(0.99);
    printf("{\"messages\": %ju, \"seconds\": %.6f, \"rate\": %.1f, ", (uintmax_t)messages, seconds, rate);
    printf("\"errors\": %ju, \"p50_us\": %.1f, \"p99_us\": %.1f, ", (uintmax_t)errors, p50, p99);
    printf("\"load_busy\": %.3f}\n", busy);
    return errors > 0;
}
