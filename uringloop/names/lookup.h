/* Look-ups by the C library, which may block: each is a job of the pool. */
#ifndef UL_LOOKUP_H
#define UL_LOOKUP_H

#include "../pool/pool.h"

#include <netdb.h>
#include <netinet/in.h>

typedef struct {
    ul_job job;       /* first: the pool gives this back */
    void *owner;      /* the caller's */
    int error;        /* 0, or one of getaddrinfo(3)'s errors */
    int system_error; /* the errno that explains EAI_SYSTEM */
    union {
        struct addrinfo hints;
        struct sockaddr_in6 address;
    };
    struct addrinfo *found;  /* of a look-up of a name */
    const char *host, *port; /* NULL for none; of a look-up of an address, its result */
    uint32_t address_size;
    int flags;
    char text[];
} ul_lookup;

/* Makes a look-up by getaddrinfo(3), with copies of its arguments.  Returns NULL without memory. */
ul_lookup *ul_lookup_of_name(const char *host, const char *port, const struct addrinfo *hints);
/* Makes a look-up by getnameinfo(3) of an internet address. */
ul_lookup *ul_lookup_of_address(const void *address, uint32_t address_size, int flags);
/* Frees a look-up with its results; the pool has given it back, or never had it. */
void ul_lookup_free(ul_lookup *lookup);

#endif
