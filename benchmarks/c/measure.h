/*
 * What load generators measure: messages, their latencies, errors; and the content that they send and expect.
 *
 * "begin" and "end" go to stderr around the measured time, and one line of JSON to stdout.
 */
#pragma once
#include "common.h"

enum {
    PATTERN_PERIOD = 65521, /* a prime: successive messages differ, whatever their size */
    HISTOGRAM_SLOTS = 2048,
    GRACE_S = 3,
    COMPLAINTS_MAX = 5,
};

static struct {
    double seconds, warmup;
} duration = {.seconds = 2.0, .warmup = 0.5};

static enum { WARMING, MEASURING, DRAINING } phase;
static uint64_t messages, errors, latencies, histogram[HISTOGRAM_SLOTS];
static double measured_seconds, measured_busy;
static unsigned char *pattern;

/* Latencies are counted in 32 slots for each power of two, so a slot is at most 3 % wide. */
static inline void record(uint64_t latency_ns) {
    int shift = latency_ns < 64 ? 0 : 58 - __builtin_clzll(latency_ns);
    histogram[shift * 32 + (int)(latency_ns >> shift)]++;
    latencies++;
}

static inline double percentile_us(double share) {
    uint64_t rank = (uint64_t)(share * (double)latencies), seen = 0;
    int slot = 0;
    while ((seen += histogram[slot]) <= rank) slot++;
    int shift = slot < 64 ? 0 : slot / 32 - 1;
    return (double)((uint64_t)(slot - shift * 32) << shift) / 1000.0;
}

static inline void complain(uint64_t connection, uint64_t byte, const char *what, int error) {
    if (errors++ >= COMPLAINTS_MAX) return;
    fprintf(stderr, "connection %ju, byte %ju: %s", (uintmax_t)connection, (uintmax_t)byte, what);
    fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
}

/* Content is an endless stream, a window of at most `longest` bytes that slides over one random pattern. */
static inline void fill_pattern(size_t longest) {
    uint64_t state = 88172645463325252u; /* xorshift64 */
    pattern = must_map(-1, PATTERN_PERIOD + longest, 0);
    for (size_t i = 0; i < PATTERN_PERIOD + longest; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        pattern[i] = i < PATTERN_PERIOD ? (unsigned char)(state >> 32) : pattern[i - PATTERN_PERIOD];
    }
}

/* Each connection starts at another place. */
static inline const unsigned char *pattern_at(uint64_t connection, uint64_t offset) {
    return pattern + (connection * 7919 + offset) % PATTERN_PERIOD;
}

/* `go_on` does a little, and returns false where nothing is left to do. */
static inline uint64_t run_for(double seconds, bool (*go_on)(void)) {
    uint64_t start = now_ns(), deadline = start + (uint64_t)(seconds * 1e9), now = start;
    while (now < deadline && go_on()) now = now_ns();
    return now_ns() - start;
}

/* A server that answers no more ends the program by a signal. */
static inline void measure(bool (*go_on)(void)) {
    alarm((unsigned)(duration.warmup + duration.seconds) + GRACE_S);
    run_for(duration.warmup, go_on);
    phase = MEASURING;
    fputs("begin\n", stderr);
    double cpu_before = cpu_seconds();
    measured_seconds = (double)run_for(duration.seconds, go_on) / 1e9;
    measured_busy = (cpu_seconds() - cpu_before) / measured_seconds;
    fputs("end\n", stderr);
    phase = DRAINING;
}

/* The exit code of the program. */
static inline int report(void) {
    printf("{\"messages\": %ju, \"rate\": %.1f, ", (uintmax_t)messages, (double)messages / measured_seconds);
    if (latencies > 0) printf("\"p50_us\": %.1f, \"p99_us\": %.1f, ", percentile_us(0.50), percentile_us(0.99));
    printf("\"load_busy\": %.3f}\n", measured_busy);
    return errors > 0;
}
