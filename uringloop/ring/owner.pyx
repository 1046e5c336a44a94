"""`Owner`: the dispatcher's view of an endpoint."""

from libc.stdint cimport uint32_t

from .core.core cimport ul_outcome


cdef class Owner:
    """Base of the objects that outcomes belong to, such as an endpoint.  It is freed after the last of its outcomes."""

    cdef take_outcome(self, ul_outcome *outcome):
        """Take one outcome; called by the dispatch."""
        raise NotImplementedError

    cdef void warm(self, const ul_outcome *outcome) noexcept:
        """Have the CPU fetch the memory that `take_outcome` will need."""

    cdef abort_in_core(self):
        """Cancel everything of it in flight: the loop is closing."""
        raise NotImplementedError

    cdef drop_core(self):
        """Drop the core's half, which is about to be freed with the ring."""
        raise NotImplementedError

    cdef free_half(self):
        """Free the core's half, now or after the last of its outcomes was dispatched."""
        raise NotImplementedError

    cdef tuple shown(self):
        """Return how a handle shows an outcome: the object that is called, and a tuple of arguments."""
        return self, ()

    cdef hearer(self):
        """Return the object that hears of outcomes, such as a protocol; None if there is none any more."""
        return None

    cdef str method_for(self, uint32_t what, bint direct):
        """Return the name of the method that hears of this.

        Args:
            what: the outcome's bits.
            direct: whether that is a method of `hearer`, and not of an object behind it.
        """
        return "complete"


cdef add_owner(list owners, Owner owner):
    """Append an owner to a list that it is in no more than once."""
    owner.place = <int>len(owners)
    owners.append(owner)


cdef drop_owner(list owners, Owner owner):
    """Take an owner out of a list, if it is there; the last one takes its place.

    A set of as many owners takes seven times the list's memory.
    """
    cdef int place = owner.place
    if place >= len(owners) or owners[place] is not owner:
        return
    last = <Owner>owners.pop()
    if last is not owner:
        last.place = place
        owners[place] = last
