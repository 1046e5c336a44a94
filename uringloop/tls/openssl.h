/* TLS on OpenSSL's own functions, in the library that Python's `_ssl` has loaded.
 *
 * Nothing is linked and no header of OpenSSL is needed.  The functions are looked up when TLS is first used, and a
 * library that lacks one of them is not used.  All calls need the GIL. */
#ifndef UL_OPENSSL_H
#define UL_OPENSSL_H

#include <stddef.h>

/* One connection: bytes between OpenSSL and the transport below.  OpenSSL reads `received` and writes `records`. */
typedef struct {
    void *ssl;            /* the SSL of an SSLObject, which the owner holds */
    void *bio;            /* the BIO of both directions */
    const char *received; /* what OpenSSL has not taken yet: the caller's memory, or within `kept` */
    size_t received_bytes;
    size_t record_bytes; /* so many bytes OpenSSL has taken of a record that is not whole */
    char *kept;
    size_t kept_capacity;
    char *records; /* what is to be sent */
    size_t records_bytes, records_capacity;
    int starved;   /* OpenSSL has asked for bytes, and there were none */
    int no_memory; /* for records */
} ul_tls;

/* How a read, a write or a shutdown ended. */
enum {
    UL_TLS_DONE,
    UL_TLS_AGAIN,  /* OpenSSL waits for bytes of the peer */
    UL_TLS_MORE,   /* the memory is full, and more may be there */
    UL_TLS_CLOSED, /* the peer has said goodbye */
    UL_TLS_FAILED, /* OpenSSL's queue of errors tells why */
};

/* Finding the library */
int ul_openssl_find(const char *path);
const char *ul_openssl_missing(void);
const char *ul_openssl_version(void);
unsigned long ul_openssl_version_number(void);
int ul_openssl_watch(void);
void *ul_openssl_watched(unsigned *count);
void ul_openssl_unwatch(void);

/* A connection */
int ul_tls_open(ul_tls *tls, void *ssl);
void ul_tls_close(ul_tls *tls);
int ul_tls_keep(ul_tls *tls, const char *data, size_t size_bytes);
void ul_tls_feed(ul_tls *tls, const char *data, size_t size_bytes);
void ul_tls_drop(ul_tls *tls);
int ul_tls_has_bytes(const ul_tls *tls);
size_t ul_tls_readable(const ul_tls *tls);
size_t ul_tls_read(ul_tls *tls, char *data, size_t capacity, int *end);
int ul_tls_discard(ul_tls *tls);
int ul_tls_write(ul_tls *tls, const char *data, size_t size_bytes);
int ul_tls_shutdown(ul_tls *tls);
void ul_tls_sent(ul_tls *tls);

#endif
