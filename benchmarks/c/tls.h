/* Connections over TLS of load generators.  The certificate is not verified, the content is. */
#pragma once
#include "common.h"
#include <openssl/err.h>
#include <openssl/ssl.h>

static inline void die_of_tls(uint64_t connection) {
    die("connection %ju: %s", (uintmax_t)connection, ERR_error_string(ERR_get_error(), NULL));
}

static inline SSL_CTX *must_make_context(void) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) die("out of memory");
    SSL_CTX_set_read_ahead(context, 1); /* one system call for a record's header and the rest */
    return context;
}

/* A connected socket, whose handshake has not begun. */
static inline SSL *open_tls(SSL_CTX *context, const struct address *address, uint64_t connection) {
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &address->any, address->size) < 0) die("connection %ju: %m", (uintmax_t)connection);
    no_delay(fd, address);
    SSL *tls = SSL_new(context);
    if (!tls || !SSL_set_fd(tls, fd)) die_of_tls(connection);
    return tls;
}
