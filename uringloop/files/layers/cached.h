/* Files without the ring, where that is sure not to wait. */
#ifndef UL_CACHED_H
#define UL_CACHED_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t mode, block_size_bytes;
    uint64_t size_bytes;
} ul_file_status;
int64_t ul_file_read_now(int fd, void *buffer, size_t size_bytes, int64_t offset);
int ul_file_open_now(const char *path, int flags, ul_file_status *out);
int ul_file_status_now(int fd, ul_file_status *out);

#endif
