from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "files/cached.h" nogil:
    ctypedef struct ul_file_status:
        uint32_t mode
        uint32_t block_size_bytes
        uint64_t size_bytes
    int64_t ul_file_read_now(int fd, void *buffer, size_t size_bytes, int64_t offset)
    int ul_file_open_now(const char *path, int flags, ul_file_status *out)
    int ul_file_status_now(int fd, ul_file_status *out)
