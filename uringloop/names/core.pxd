# The declarations of `lookup.h`, and of the pool's ports.

from libc.stdint cimport uint32_t


cdef extern from "pool/pool.h" nogil:
    ctypedef struct ul_port:
        pass
    ctypedef struct ul_job:
        ul_job *next

    ul_port *ul_port_open_pipe(int *error)
    void ul_port_close(ul_port *port)
    int ul_port_fd(ul_port *port)
    int ul_port_submit(ul_port *port, ul_job *job)
    int ul_port_withdraw(ul_port *port, ul_job *job)
    void ul_port_abandon(ul_port *port, ul_job *job)
    int ul_port_detain(ul_port *port, ul_job *job)
    ul_job *ul_port_take(ul_port *port)


cdef extern from "names/lookup.h" nogil:
    enum:
        EAI_SYSTEM
    struct addrinfo:
        int ai_flags
        int ai_family
        int ai_socktype
        int ai_protocol
        uint32_t ai_addrlen
        void *ai_addr
        char *ai_canonname
        addrinfo *ai_next
    const char *gai_strerror(int error)

    ctypedef struct ul_lookup:
        ul_job job
        void *owner
        int error
        int system_error
        addrinfo *found
        const char *host
        const char *port

    ul_lookup *ul_lookup_of_name(const char *host, const char *port, const addrinfo *hints)
    ul_lookup *ul_lookup_of_address(const void *address, uint32_t address_size, int flags)
    void ul_lookup_free(ul_lookup *lookup)
