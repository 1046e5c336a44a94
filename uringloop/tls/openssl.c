/* OpenSSL's functions, and the BIO through which it reads and writes the memory of a connection.
 *
 * A record is copied once on its way in, from the receive buffer into OpenSSL, and once on its way out.  The BIO never
 * blocks: a write always takes all, and a read without bytes asks for a retry. */
#define _GNU_SOURCE
#include "openssl.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* OpenSSL's numbers, which all its versions from 1.1.1 on share. */
enum {
    SSL_ERROR_WANT_READ = 2,
    SSL_ERROR_WANT_WRITE = 3,
    SSL_ERROR_ZERO_RETURN = 6,
    SSL_SENT_SHUTDOWN = 1,
    SSL_RECEIVED_SHUTDOWN = 2,
    BIO_TYPE_SOURCE_SINK = 0x0400,
    BIO_FLAGS_READ = 0x01,
    BIO_FLAGS_SHOULD_RETRY = 0x08,
    BIO_CTRL_PENDING = 10,
    BIO_CTRL_FLUSH = 11,
    CRYPTO_EX_INDEX_SSL = 0,
};

#define RECORDS_FIRST_BYTES 32768
#define SPARE_MAX_BYTES 262144
#define DISCARD_BYTES 16384
#define RECORD_PLAIN_MAX_BYTES 16384

typedef void ex_new(void *parent, void *pointer, void *data, int index, long argument, void *argument_pointer);

#define FUNCTIONS                                                                                                      \
    F(const char *, OpenSSL_version, (int))                                                                            \
    F(unsigned long, OpenSSL_version_num, (void))                                                                      \
    F(int, CRYPTO_get_ex_new_index, (int, long, void *, ex_new *, void *, void *))                                     \
    F(int, CRYPTO_free_ex_index, (int, int))                                                                           \
    F(unsigned long, ERR_peek_error, (void))                                                                           \
    F(void, ERR_clear_error, (void))                                                                                   \
    F(int, BIO_get_new_index, (void))                                                                                  \
    F(void *, BIO_meth_new, (int, const char *))                                                                       \
    F(int, BIO_meth_set_read_ex, (void *, int (*)(void *, char *, size_t, size_t *)))                                  \
    F(int, BIO_meth_set_write_ex, (void *, int (*)(void *, const char *, size_t, size_t *)))                           \
    F(int, BIO_meth_set_ctrl, (void *, long (*)(void *, int, long, void *)))                                           \
    F(void *, BIO_new, (const void *))                                                                                 \
    F(int, BIO_free, (void *))                                                                                         \
    F(int, BIO_up_ref, (void *))                                                                                       \
    F(void, BIO_set_data, (void *, void *))                                                                            \
    F(void *, BIO_get_data, (void *))                                                                                  \
    F(void, BIO_set_init, (void *, int))                                                                               \
    F(void, BIO_set_flags, (void *, int))                                                                              \
    F(void, BIO_clear_flags, (void *, int))                                                                            \
    F(void, SSL_set_bio, (void *, void *, void *))                                                                     \
    F(int, SSL_read, (void *, void *, int))                                                                            \
    F(int, SSL_write, (void *, const void *, int))                                                                     \
    F(int, SSL_pending, (const void *))                                                                                \
    F(int, SSL_get_error, (const void *, int))                                                                         \
    F(int, SSL_get_shutdown, (const void *))                                                                           \
    F(int, SSL_shutdown, (void *))

static struct {
#define F(type, name, arguments) type(*name) arguments;
    FUNCTIONS
#undef F
} openssl;

static const char *const names[] = {
#define F(type, name, arguments) #name,
    FUNCTIONS
#undef F
};

#define COUNT (sizeof(names) / sizeof(*names))
_Static_assert(sizeof(openssl) == COUNT * sizeof(void *), "one pointer for each name");

static const char *missing;
static void *method;
/* The memory of records that were sent, for the next write.  `_ssl` lets go of the GIL in a handshake, where the BIO
 * must not touch it. */
static char *spare;
static size_t spare_capacity;

/* Finding the library */

/* Finds the functions in the library that `_ssl` has loaded; path: the file of `_ssl`, NULL if it is built into the
 * program. Returns 0, or -1 if one is missing.  The object is loaded already, and stays so. */
int ul_openssl_find(const char *path)
{
    void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD), *found[COUNT];
    if (handle == NULL) {
        missing = "_ssl";
        return -1;
    }
    for (size_t i = 0; i < COUNT; i++) {
        found[i] = dlsym(handle, names[i]);
        if (found[i] == NULL) {
            missing = names[i];
            dlclose(handle);
            return -1;
        }
    }
    memcpy(&openssl, found, sizeof(openssl));
    return 0;
}

const char *ul_openssl_missing(void) { return missing; }

const char *ul_openssl_version(void) { return openssl.OpenSSL_version(0); }

unsigned long ul_openssl_version_number(void) { return openssl.OpenSSL_version_num(); }

static __thread void *watched;
static __thread unsigned watched_count;
static int watch_index = -1;

static void made(void *parent, void *pointer, void *data, int index, long argument, void *argument_pointer)
{
    (void)pointer, (void)data, (void)index, (void)argument, (void)argument_pointer;
    watched = parent;
    watched_count++;
}

/* Has OpenSSL name each SSL that it makes from now on; 0 or -1. */
int ul_openssl_watch(void)
{
    watch_index = openssl.CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, made, NULL, NULL);
    return watch_index < 0 ? -1 : 0;
}

/* The SSL that this thread made last, and how many it has made. */
void *ul_openssl_watched(unsigned *count)
{
    *count = watched_count;
    return watched;
}

void ul_openssl_unwatch(void)
{
    if (watch_index >= 0)
        openssl.CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL, watch_index);
    watch_index = -1;
}

/* The BIO */

static int read_bytes(void *bio, char *data, size_t size, size_t *taken)
{
    ul_tls *tls = openssl.BIO_get_data(bio);
    *taken = 0;
    if (tls == NULL || tls->received_bytes == 0) {
        if (tls != NULL)
            tls->starved = 1;
        openssl.BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
        return -1;
    }
    openssl.BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    if (size > tls->received_bytes)
        size = tls->received_bytes;
    memcpy(data, tls->received, size);
    tls->received += size;
    tls->received_bytes -= size;
    tls->record_bytes += size;
    *taken = size;
    return 1;
}

static int reserve(ul_tls *tls, size_t size)
{
    size_t capacity = tls->records_capacity ? tls->records_capacity : RECORDS_FIRST_BYTES;
    if (size <= tls->records_capacity)
        return 0;
    while (capacity < size)
        capacity *= 2;
    char *larger = realloc(tls->records, capacity);
    if (larger == NULL)
        return -1;
    tls->records = larger;
    tls->records_capacity = capacity;
    return 0;
}

static int write_bytes(void *bio, const char *data, size_t size, size_t *written)
{
    ul_tls *tls = openssl.BIO_get_data(bio);
    *written = 0;
    openssl.BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    if (tls != NULL) {
        if (reserve(tls, tls->records_bytes + size) < 0) {
            tls->no_memory = 1;
            return -1;
        }
        memcpy(tls->records + tls->records_bytes, data, size);
        tls->records_bytes += size;
    }
    *written = size;
    return 1;
}

static long control(void *bio, int command, long number, void *pointer)
{
    (void)number, (void)pointer;
    ul_tls *tls = openssl.BIO_get_data(bio);
    if (command == BIO_CTRL_FLUSH)
        return 1;
    return command == BIO_CTRL_PENDING && tls != NULL ? (long)tls->received_bytes : 0;
}

static int make_method(void)
{
    if (method != NULL)
        return 0;
    int type = openssl.BIO_get_new_index();
    void *made = type < 0 ? NULL : openssl.BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "uringloop");
    if (made == NULL || !openssl.BIO_meth_set_read_ex(made, read_bytes) ||
        !openssl.BIO_meth_set_write_ex(made, write_bytes) || !openssl.BIO_meth_set_ctrl(made, control))
        return -1;
    method = made;
    return 0;
}

/* A connection */

/* Gives an SSL the connection's BIO in place of its own; 0, or -1 without memory. */
int ul_tls_open(ul_tls *tls, void *ssl)
{
    memset(tls, 0, sizeof(*tls));
    void *bio = make_method() < 0 ? NULL : openssl.BIO_new(method);
    if (bio == NULL)
        return -1;
    openssl.BIO_set_data(bio, tls);
    openssl.BIO_set_init(bio, 1);
    openssl.BIO_up_ref(bio); /* one reference is the SSL's */
    openssl.SSL_set_bio(ssl, bio, bio);
    tls->ssl = ssl;
    tls->bio = bio;
    return 0;
}

/* The SSL may outlive the connection; it finds no bytes any more. */
void ul_tls_close(ul_tls *tls)
{
    if (tls->bio != NULL) {
        openssl.BIO_set_data(tls->bio, NULL);
        openssl.BIO_free(tls->bio);
    }
    free(tls->kept);
    free(tls->records);
    memset(tls, 0, sizeof(*tls));
}

/* Gives OpenSSL the caller's memory to read, of which it keeps nothing after ul_tls_keep or ul_tls_drop. */
void ul_tls_feed(ul_tls *tls, const char *data, size_t size_bytes)
{
    tls->received = data;
    tls->received_bytes = size_bytes;
}

/* Copies what OpenSSL has not taken, unless it is the connection's own, and these bytes behind it; 0, or -1 without
 * memory. */
int ul_tls_keep(ul_tls *tls, const char *data, size_t size_bytes)
{
    size_t before = tls->received_bytes, size = before + size_bytes;
    int own = tls->kept != NULL && tls->received >= tls->kept && tls->received <= tls->kept + tls->kept_capacity;
    if (size == 0) {
        free(tls->kept);
        tls->kept = NULL;
        tls->kept_capacity = 0;
        tls->received = NULL;
        return 0;
    }
    if (own && size_bytes == 0)
        return 0;
    if (!own || size > tls->kept_capacity) {
        size_t capacity = size < 4096 ? 4096 : size + size / 2;
        char *memory = malloc(capacity);
        if (memory == NULL)
            return -1;
        if (before > 0)
            memcpy(memory, tls->received, before);
        free(tls->kept);
        tls->kept = memory;
        tls->kept_capacity = capacity;
    } else if (before > 0) {
        memmove(tls->kept, tls->received, before);
    }
    if (size_bytes > 0)
        memcpy(tls->kept + before, data, size_bytes);
    tls->received = tls->kept;
    tls->received_bytes = size;
    return 0;
}

/* Forgets what OpenSSL has not taken. */
void ul_tls_drop(ul_tls *tls) { tls->received_bytes = 0; }

/* Whether a read may give bytes now. */
int ul_tls_has_bytes(const ul_tls *tls) { return tls->received_bytes > 0 || openssl.SSL_pending(tls->ssl) > 0; }

/* The most bytes that a read can give now. */
size_t ul_tls_readable(const ul_tls *tls)
{
    /* The peer's messages to OpenSSL itself, as changes of a key, count too: they may be any number. */
    size_t taken = tls->record_bytes < RECORD_PLAIN_MAX_BYTES ? tls->record_bytes : RECORD_PLAIN_MAX_BYTES;
    return tls->received_bytes + taken + (size_t)openssl.SSL_pending(tls->ssl);
}

/* An old error in the thread's queue would be taken for this call's. */
static void clear_errors(void)
{
    if (openssl.ERR_peek_error() != 0)
        openssl.ERR_clear_error();
}

/* How a call ended that returned 0 or less, as OpenSSL tells it. */
static int ended(ul_tls *tls, int result)
{
    int error = openssl.SSL_get_error(tls->ssl, result);
    if (error == SSL_ERROR_ZERO_RETURN)
        return UL_TLS_CLOSED;
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? UL_TLS_AGAIN : UL_TLS_FAILED;
}

/* Reads what has come, as far as there is room; the number of bytes. */
size_t ul_tls_read(ul_tls *tls, char *data, size_t capacity, int *end)
{
    size_t total = 0;
    clear_errors();
    while (total < capacity) {
        size_t room = capacity - total;
        tls->starved = 0;
        int result = openssl.SSL_read(tls->ssl, data + total, room > INT_MAX ? INT_MAX : (int)room);
        if (result <= 0) {
            *end = tls->starved ? UL_TLS_AGAIN : ended(tls, result);
            return total;
        }
        total += (size_t)result;
        if (openssl.SSL_pending(tls->ssl) == 0) {
            tls->record_bytes = 0;
            if (tls->received_bytes == 0) {
                *end = UL_TLS_AGAIN;
                return total;
            }
        }
    }
    *end = UL_TLS_MORE;
    return total;
}

/* Reads what has come, and forgets it: AGAIN, CLOSED or FAILED. */
int ul_tls_discard(ul_tls *tls)
{
    char data[DISCARD_BYTES];
    int end = UL_TLS_MORE;
    while (end == UL_TLS_MORE)
        ul_tls_read(tls, data, sizeof(data), &end);
    return end;
}

/* Encrypts all bytes or none: DONE, AGAIN or FAILED. */
int ul_tls_write(ul_tls *tls, const char *data, size_t size_bytes)
{
    clear_errors();
    if (tls->records == NULL && spare != NULL) {
        tls->records = spare;
        tls->records_capacity = spare_capacity;
        spare = NULL;
    }
    int result = openssl.SSL_write(tls->ssl, data, (int)size_bytes);
    return result > 0 ? UL_TLS_DONE : ended(tls, result);
}

/* Says goodbye: DONE if the peer has said it, AGAIN if it has not, or FAILED. */
int ul_tls_shutdown(ul_tls *tls)
{
    clear_errors();
    /* Called again it would read, and take bytes for the application for an error. */
    if (!(openssl.SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN)) {
        int result = openssl.SSL_shutdown(tls->ssl);
        if (result < 0)
            return ended(tls, result);
    }
    return openssl.SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN ? UL_TLS_DONE : UL_TLS_AGAIN;
}

/* The records were sent: their memory serves the next that has some. */
void ul_tls_sent(ul_tls *tls)
{
    tls->records_bytes = 0;
    if (tls->records_capacity > SPARE_MAX_BYTES || spare != NULL) {
        free(tls->records);
    } else {
        spare = tls->records;
        spare_capacity = tls->records_capacity;
    }
    tls->records = NULL;
    tls->records_capacity = 0;
}
