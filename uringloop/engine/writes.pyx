"""`StreamWrites`: the `write` of a connection's transport.

A bound method of the stream in each transport would be as fast, and take 88 bytes.
"""

from cpython.object cimport PyObject

from .stream cimport Stream

cdef extern from *:
    """
    #include <structmember.h>

    /* The offset of a slot in its objects, by its descriptor; 0 if it is none. */
    static Py_ssize_t offset_of_slot(PyObject *descriptor)
    {
        return Py_IS_TYPE(descriptor, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)descriptor)->d_member->offset : 0;
    }
    #define slot_at(object, offset) (*(PyObject **)((char *)(object) + (offset)))
    """
    Py_ssize_t offset_of_slot(object descriptor)
    PyObject *slot_at(object instance, Py_ssize_t offset)

#: The class of the transports of connections, and the place of their stream.
cdef object transports = None
cdef Py_ssize_t offset = 0


def keeps_stream(cls):
    """Tell `StreamWrites` of the class that it serves; return the class.

    Args:
        cls: a subclass of `StreamWrites` with a slot `_endpoint`, in which each object has its `Stream`.

    Raises:
        TypeError: it has no such slot.
    """
    global transports, offset
    cdef Py_ssize_t found = offset_of_slot(cls._endpoint)
    if found == 0:
        raise TypeError("the stream is in no slot")
    transports, offset = cls, found
    return cls


cdef class StreamWrites:
    """Base of the class that `keeps_stream` has been told of."""

    def write(self, data):
        """Queue bytes to be sent, in order.  See `asyncio.WriteTransport.write`.

        Args:
            data: bytes, bytearray or memoryview.

        Raises:
            TypeError: data is none of these.
            RuntimeError: after `write_eof`, or while a sendfile is in progress.
            MemoryError: nothing of it is queued.  If a part was sent, the connection is closed.
        """
        cdef PyObject *stream = slot_at(self, offset) if isinstance(self, transports) else NULL
        if stream == NULL:
            raise AttributeError("_endpoint")  # `__init__` has failed
        (<Stream>stream).write_one(data)
