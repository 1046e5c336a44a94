/*
 * A load generator of a flood with questions beside it: many connections send as fast as the server takes it, and a few
 * others send one byte at fixed times and expect it back.
 *
 * The first byte of each connection tells the server what it is: FLOOD or QUESTION.  A process of its own floods, so
 * that the questions leave in time.  A latency counts from the time at which the question was due, and a question
 * without an answer ends the program.  The rate is of MiB that the server has taken.
 */
#include "measure.h"
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { FLOOD = 'f', QUESTION = 'q', PENDING_MAX = 4096 };

static const uint64_t interval_ns = 5000000;
static const double grace_seconds = 2;

static struct {
    struct address address;
    int flooding, asking;
    size_t size;
} option = {.flooding = 100, .asking = 20, .size = 256 << 10};

static struct question {
    uint64_t due_ns[PENDING_MAX], sent, answered;
} *questions;

static struct pollfd *polled;
static uint64_t first_due_ns, asked, longest_ns;
static atomic_ullong *flooded_bytes; /* shared with the process that floods */

static int connected(char kind) {
    int fd = socket(option.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket: %m");
    if (connect(fd, &option.address.any, option.address.size) < 0) die("connect: %m");
    no_delay(fd, &option.address);
    if (send(fd, &kind, 1, MSG_NOSIGNAL) != 1) die("send: %m");
    return fd;
}

static struct pollfd *connect_all(int count, char kind, short events) {
    struct pollfd *all = calloc((size_t)count, sizeof *all);
    if (!all) die("out of memory");
    for (int i = 0; i < count; i++) all[i] = (struct pollfd){.fd = connected(kind), .events = events};
    return all;
}

static void flood(void) {
    struct pollfd *sockets = connect_all(option.flooding, FLOOD, POLLOUT);
    const char *bytes = must_map(-1, option.size, 0);
    while (poll(sockets, (nfds_t)option.flooding, -1) > 0)
        for (int i = 0; i < option.flooding; i++) {
            if (!sockets[i].revents) continue;
            ssize_t sent = send(sockets[i].fd, bytes, option.size, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent > 0) atomic_fetch_add(flooded_bytes, (unsigned long long)sent);
            else if (errno != EAGAIN) exit(1);
        }
    exit(1);
}

static void ask(uint64_t now) {
    while (first_due_ns + asked * interval_ns <= now) {
        uint64_t number = asked % (uint64_t)option.asking;
        struct question *question = &questions[number];
        question->due_ns[question->sent++ % PENDING_MAX] = first_due_ns + asked++ * interval_ns;
        if (question->sent - question->answered >= PENDING_MAX) die("connection %ju: no answers", (uintmax_t)number);
        if (send(polled[number].fd, "?", 1, MSG_NOSIGNAL) != 1) die("send: %m");
    }
}

static void take_answers(uint64_t number, uint64_t now) {
    char answers[64];
    struct question *question = &questions[number];
    ssize_t count = recv(polled[number].fd, answers, sizeof answers, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) complain(number, question->answered, "ended", count < 0 ? errno : 0);
    for (ssize_t i = 0; i < count; i++) {
        uint64_t latency_ns = now - question->due_ns[question->answered++ % PENDING_MAX];
        if (phase == WARMING) continue;
        record(latency_ns);
        if (latency_ns > longest_ns) longest_ns = latency_ns;
    }
}

static bool go_on(void) {
    uint64_t now = now_ns(), unanswered = 0;
    if (phase != DRAINING) ask(now);
    if (poll(polled, (nfds_t)option.asking, 1) < 0) die("poll: %m");
    now = now_ns();
    for (int i = 0; i < option.asking; i++) {
        if (polled[i].revents) take_answers((uint64_t)i, now);
        unanswered += questions[i].sent - questions[i].answered;
    }
    static unsigned long long before;
    unsigned long long flooded = atomic_load(flooded_bytes);
    if (phase == MEASURING && before > 0) messages += flooded - before;
    before = flooded;
    return errors == 0 && (phase != DRAINING || unanswered > 0);
}

static void read_options(int argc, char **argv) {
    static const char usage[] = "usage: flood -a ADDRESS [-c FLOODING] [-q ASKING] [-s SIZE] [-t SECONDS] [-w SECONDS]";
    const char *address = NULL;
    for (int letter; (letter = getopt(argc, argv, "a:c:q:s:t:w:")) != -1;) {
        if (letter == 'a') address = optarg;
        else if (letter == 'c') option.flooding = atoi(optarg);
        else if (letter == 'q') option.asking = atoi(optarg);
        else if (letter == 's') option.size = strtoul(optarg, NULL, 10);
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    if (!address || option.flooding <= 0 || option.asking <= 0 || option.size == 0) die(usage);
    option.address = parse_address(address);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    questions = calloc((size_t)option.asking, sizeof *questions);
    flooded_bytes = mmap(NULL, sizeof *flooded_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!questions || flooded_bytes == MAP_FAILED) die("out of memory");
    polled = connect_all(option.asking, QUESTION, POLLIN);
    pid_t flooder = fork();
    if (flooder < 0) die("fork: %m");
    if (flooder == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        flood();
    }
    first_due_ns = now_ns();
    measure(go_on);
    run_for(grace_seconds, go_on);
    for (int i = 0; i < option.asking; i++)
        if (questions[i].sent > questions[i].answered) complain((uint64_t)i, questions[i].answered, "no answer", 0);
    if (waitpid(flooder, NULL, WNOHANG) != 0) complain(0, 0, "the flood ended", 0);
    kill(flooder, SIGKILL);
    waitpid(flooder, NULL, 0);
    printf("{\"messages\": %.3f, \"rate\": %.1f, ", (double)messages / (1 << 20),
           (double)messages / (1 << 20) / measured_seconds);
    if (latencies > 0)
        printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, ", percentile_us(0.50), percentile_us(0.99),
               (double)longest_ns / 1000);
    printf("\"load_busy\": %.3f}\n", measured_busy);
    return errors > 0;
}
