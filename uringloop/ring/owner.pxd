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


cdef add_owner(list owners, Owner owner)
cdef drop_owner(list owners, Owner owner)
