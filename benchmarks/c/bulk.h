/*
 * What bulk.c and tls_bulk.c share: a connection on which much goes one way, and whose content is a file's, over and
 * over.  Messages are MiB.
 */
#ifndef BULK_H
#define BULK_H

#include "measure.h"
#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { CHUNK = 256 << 10, MIB = 1 << 20 };

static unsigned char *file, *chunk;
static size_t file_size;
static uint64_t total;    /* bytes, since the connection was made */
static uint64_t measured; /* bytes of them in the measured time */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static void count(size_t size) {
    total += size;
    if (phase == MEASURING) measured += size;
}

/* At the end the server tells how many bytes arrived; `size` is of what was read of that. */
static void check_what_arrived(uint64_t arrived, ssize_t size) {
    if (size != sizeof arrived) complain(0, total, "the server found other content, or did not answer", 0);
    else if (be64toh(arrived) != total) complain(0, be64toh(arrived), "bytes are missing", 0);
}

/* Reads the options, maps the file, and returns the mode's place in `modes`, which ends with NULL. */
static int prepare(int argc, char **argv, const char *usage, const char *const *modes, struct address *address) {
    const char *address_text = NULL, *path = NULL, *mode = "";
    for (int letter; (letter = getopt(argc, argv, "a:f:m:t:w:")) != -1;) {
        if (letter == 'a') address_text = optarg;
        else if (letter == 'f') path = optarg;
        else if (letter == 'm') mode = optarg;
        else if (letter == 't') duration.seconds = atof(optarg);
        else if (letter == 'w') duration.warmup = atof(optarg);
        else die(usage);
    }
    int place = 0;
    while (modes[place] && strcmp(modes[place], mode)) place++;
    if (!address_text || !path || !modes[place]) die(usage);
    *address = parse_address(address_text);
    struct stat status;
    int source = open(path, O_RDWR | O_CLOEXEC);
    if (source < 0 || fstat(source, &status) < 0 || status.st_size == 0) die("%s: cannot be used", path);
    file_size = (size_t)status.st_size;
    file = must_map(source, file_size, 0);
    chunk = must_map(-1, CHUNK, 0);
    return place;
}

#endif
