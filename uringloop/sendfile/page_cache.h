/* Sends the cached bytes of a file. */
#ifndef UL_PAGE_CACHE_H
#define UL_PAGE_CACHE_H

#include <stddef.h>
#include <stdint.h>

/* Why ul_send_cached sends no more; a negative errno is one more reason. */
enum {
    UL_SENT_ALL,
    UL_SENT_MUCH, /* other callbacks had better run now */
    UL_SOCKET_FULL,
    UL_FILE_ENDS,
    UL_NOT_CACHED, /* reading the next byte might wait */
};

int64_t ul_file_size(int file);
int64_t ul_send_cached(int sock, int file, int64_t offset, int64_t size_bytes, int *reason);
int64_t ul_read_cached(int file, void *buffer, size_t size_bytes, int64_t offset);
int64_t ul_send_now(int sock, const void *data, size_t size_bytes);

#endif
