from libc.stdint cimport uint32_t

from .core.core cimport ul_outcome

# A truth in one byte: a loop may have very many owners, and a `bint` takes four.
ctypedef unsigned char flag


cdef class Owner:
    cdef int untold  # its outcomes that wait in the dispatcher's queue or are in hand
    cdef int place  # in the dispatcher's list
    cdef flag freeing  # once they are told

    cdef take_outcome(self, ul_outcome *outcome)
    cdef abort_in_core(self)
    cdef drop_core(self)
    cdef free_half(self)
    cdef tuple shown(self)
    cdef hearer(self)
    cdef str method_for(self, uint32_t what, bint direct)
    cdef void warm(self, const ul_outcome *outcome) noexcept


cdef extern from *:
    """
    #define warm_line(memory) __builtin_prefetch(memory)
    #define warm_lines(memory) \
        (__builtin_prefetch(memory), __builtin_prefetch((const char *)(memory) + 64), \
         __builtin_prefetch((const char *)(memory) + 128))
    """
    void warm_line(const void *memory) noexcept nogil
    void warm_lines(const void *memory) noexcept nogil


cdef enum:
    MANY_OUTCOMES = 32  # the memory of so many connections may be in no cache of the CPU's own


cdef inline void warm_next(const ul_outcome *outcomes, int count) noexcept:
    """Have the CPU fetch the memory of the outcomes to come, if they are many."""
    if count <= MANY_OUTCOMES:
        return
    if outcomes[2].owner != NULL:
        warm_lines(outcomes[2].owner)
    if outcomes[0].owner != NULL:
        (<Owner>outcomes[0].owner).warm(outcomes)


cdef add_owner(list owners, Owner owner)
cdef drop_owner(list owners, Owner owner)
