/* The calls of a look-up, and its memory. */
#define _GNU_SOURCE
#include "lookup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void run_of_name(ul_job *job)
{
    ul_lookup *lookup = (ul_lookup *)job;
    lookup->error = getaddrinfo(lookup->host, lookup->port, &lookup->hints, &lookup->found);
    lookup->system_error = errno;
    if (lookup->error != 0)
        lookup->found = NULL; /* POSIX leaves it undefined */
}

static void run_of_address(ul_job *job)
{
    ul_lookup *lookup = (ul_lookup *)job;
    char *host = lookup->text, *port = host + NI_MAXHOST;
    lookup->error = getnameinfo((struct sockaddr *)&lookup->address, lookup->address_size, host, NI_MAXHOST, port,
                                NI_MAXSERV, lookup->flags);
    lookup->system_error = errno;
}

static void dispose(ul_job *job) { ul_lookup_free((ul_lookup *)job); }

static ul_lookup *make(size_t text_size_bytes, void (*run)(ul_job *))
{
    ul_lookup *lookup = calloc(1, sizeof(*lookup) + text_size_bytes);
    if (lookup != NULL) {
        lookup->job.run = run;
        lookup->job.dispose = dispose;
    }
    return lookup;
}

ul_lookup *ul_lookup_of_name(const char *host, const char *port, const struct addrinfo *hints)
{
    size_t host_size = host != NULL ? strlen(host) + 1 : 0, port_size = port != NULL ? strlen(port) + 1 : 0;
    ul_lookup *lookup = make(host_size + port_size, run_of_name);
    if (lookup == NULL)
        return NULL;
    lookup->hints = *hints;
    if (host != NULL)
        lookup->host = memcpy(lookup->text, host, host_size);
    if (port != NULL)
        lookup->port = memcpy(lookup->text + host_size, port, port_size);
    return lookup;
}

ul_lookup *ul_lookup_of_address(const void *address, uint32_t address_size, int flags)
{
    ul_lookup *lookup = make(NI_MAXHOST + NI_MAXSERV, run_of_address);
    if (lookup == NULL)
        return NULL;
    memcpy(&lookup->address, address, address_size);
    lookup->address_size = address_size;
    lookup->flags = flags;
    lookup->host = lookup->text;
    lookup->port = lookup->text + NI_MAXHOST;
    return lookup;
}

void ul_lookup_free(ul_lookup *lookup)
{
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    free(lookup);
}
