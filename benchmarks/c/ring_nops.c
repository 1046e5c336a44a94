/* NOPs through a ring, by liburing: what there is to gain at all.
 *
 *     ring_nops single|batch|sqpoll SECONDS
 *
 * prints how many were completed in a second.
 */
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 32

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void go(struct io_uring *ring, unsigned count, int spins) {
    for (unsigned i = 0; i < count; i++) io_uring_prep_nop(io_uring_get_sqe(ring));
    if (spins) io_uring_submit(ring);
    else io_uring_submit_and_wait(ring, count);
    for (unsigned done = 0; done < count;) {
        struct io_uring_cqe *cqe;
        if (io_uring_peek_cqe(ring, &cqe) == 0) {
            io_uring_cqe_seen(ring, cqe);
            done++;
        }
    }
}

int main(int argc, char **argv) {
    struct io_uring ring;
    struct io_uring_params params;
    memset(&params, 0, sizeof(params));
    if (argc != 3) return 2;
    int polled = strcmp(argv[1], "sqpoll") == 0;
    params.flags = polled ? IORING_SETUP_SQPOLL : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    params.sq_thread_idle = 1000;
    if (io_uring_queue_init_params(256, &ring, &params) < 0) {
        fprintf(stderr, "no ring\n");
        return 1;
    }
    unsigned count = strcmp(argv[1], "single") == 0 ? 1 : BATCH;
    double begin = now(), end = begin + atof(argv[2]);
    unsigned long done = 0;
    while (now() < end) {
        for (int i = 0; i < 100; i++) go(&ring, count, polled);
        done += 100 * count;
    }
    printf("%f\n", done / (now() - begin));
    return 0;
}
