/* A name service for tests: it answers names below .gated, and those below .held.gated when the test lets it.
 *
 * The C library calls it between the program and its own services, as nsswitch.conf(5) says.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <nss.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

static int begun = -1, gate = -1; /* eventfds */

void gated_use(int begun_fd, int gate_fd)
{
    begun = begun_fd;
    gate = gate_fd;
}

static int ends_with(const char *name, const char *end)
{
    size_t size = strlen(name), end_size = strlen(end);
    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

static int is_ours(const char *name) { return ends_with(name, ".gated") || ends_with(name, ".gated."); }

static void touch(int fd, int reads)
{
    uint64_t one = 1;
    while ((reads ? read(fd, &one, sizeof(one)) : write(fd, &one, sizeof(one))) < 0 && errno == EINTR)
        ;
}

/* Addresses 127.0.0.1 and ::2, both named after the request. */
static enum nss_status answer(const char *name, struct gaih_addrtuple **found, char *buffer)
{
    size_t pad = -(uintptr_t)buffer % _Alignof(struct gaih_addrtuple);
    struct gaih_addrtuple *tuples = (struct gaih_addrtuple *)(buffer + pad);
    char *copied = (char *)(tuples + 2);
    strcpy(copied, name);
    memset(tuples, 0, 2 * sizeof(*tuples));
    tuples[0] = (struct gaih_addrtuple){.next = &tuples[1], .name = copied, .family = AF_INET};
    tuples[0].addr[0] = htonl(INADDR_LOOPBACK);
    tuples[1] = (struct gaih_addrtuple){.name = copied, .family = AF_INET6, .addr[3] = htonl(2)};
    if (*found != NULL)
        **found = tuples[0];
    else
        *found = tuples;
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_gated_gethostbyname4_r(const char *name, struct gaih_addrtuple **found, char *buffer, size_t size,
                                            int *error, int *host_error, int32_t *ttl_s);

enum nss_status _nss_gated_gethostbyname4_r(const char *name, struct gaih_addrtuple **found, char *buffer, size_t size,
                                            int *error, int *host_error, int32_t *ttl_s)
{
    (void)ttl_s;
    *error = ENOENT;
    *host_error = HOST_NOT_FOUND;
    if (!is_ours(name))
        return NSS_STATUS_NOTFOUND;
    if (ends_with(name, ".held.gated")) {
        touch(begun, 0);
        touch(gate, 1);
    }
    if (strcmp(name, "missing.gated") == 0)
        return NSS_STATUS_UNAVAIL;
    if (strcmp(name, "again.gated") == 0) {
        *error = EAGAIN;
        *host_error = TRY_AGAIN;
        return NSS_STATUS_TRYAGAIN;
    }
    if (size < 3 * sizeof(struct gaih_addrtuple) + strlen(name) + 1) {
        *error = ERANGE;
        *host_error = NETDB_INTERNAL;
        return NSS_STATUS_TRYAGAIN;
    }
    return answer(name, found, buffer);
}

enum nss_status _nss_gated_gethostbyname2_r(const char *name, int family, struct hostent *found, char *buffer,
                                            size_t size, int *error, int *host_error);

/* For one family: nothing. */
enum nss_status _nss_gated_gethostbyname2_r(const char *name, int family, struct hostent *found, char *buffer,
                                            size_t size, int *error, int *host_error)
{
    (void)name, (void)family, (void)found, (void)buffer, (void)size;
    *error = ENOENT;
    *host_error = HOST_NOT_FOUND;
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_gated_gethostbyaddr_r(const void *address, socklen_t address_size, int family,
                                           struct hostent *found, char *buffer, size_t size, int *error,
                                           int *host_error);

/* The C library's files know 127.0.0.1; no other address has a name. */
enum nss_status _nss_gated_gethostbyaddr_r(const void *address, socklen_t address_size, int family,
                                           struct hostent *found, char *buffer, size_t size, int *error,
                                           int *host_error)
{
    uint32_t loopback = htonl(INADDR_LOOPBACK);
    (void)found, (void)buffer, (void)size;
    *error = ENOENT;
    *host_error = HOST_NOT_FOUND;
    if (family == AF_INET && memcmp(address, &loopback, address_size) == 0)
        return NSS_STATUS_NOTFOUND;
    return NSS_STATUS_UNAVAIL;
}
