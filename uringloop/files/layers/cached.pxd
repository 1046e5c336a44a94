from libc.stdint cimport int64_t


cpdef read_now(int fd, Py_ssize_t size_bytes, int64_t offset)
