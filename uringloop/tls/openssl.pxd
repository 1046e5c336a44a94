# The declarations of `openssl.h`.

cdef extern from "tls/openssl.h" nogil:
    ctypedef struct ul_tls:
        size_t received_bytes
        char *records
        size_t records_bytes
        bint no_memory

    enum:
        UL_TLS_DONE
        UL_TLS_AGAIN
        UL_TLS_MORE
        UL_TLS_CLOSED
        UL_TLS_FAILED

    int ul_openssl_find(const char *path)
    const char *ul_openssl_missing()
    const char *ul_openssl_version()
    unsigned long ul_openssl_version_number()
    int ul_openssl_watch()
    void *ul_openssl_watched(unsigned *count)
    void ul_openssl_unwatch()

    int ul_tls_open(ul_tls *tls, void *ssl)
    void ul_tls_close(ul_tls *tls)
    int ul_tls_keep(ul_tls *tls, const char *data, size_t size_bytes)
    void ul_tls_feed(ul_tls *tls, const char *data, size_t size_bytes)
    void ul_tls_drop(ul_tls *tls)
    bint ul_tls_has_bytes(const ul_tls *tls)
    size_t ul_tls_readable(const ul_tls *tls)
    size_t ul_tls_read(ul_tls *tls, char *data, size_t capacity, int *end)
    int ul_tls_discard(ul_tls *tls)
    int ul_tls_write(ul_tls *tls, const char *data, size_t size_bytes)
    int ul_tls_shutdown(ul_tls *tls)
    void ul_tls_sent(ul_tls *tls)
