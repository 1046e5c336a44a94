# What asyncio's stream reader does with bytes, without its four Python calls for each piece: a part of hot.pyx.
#
# Only where nothing is left to be decided: the protocol and the reader are asyncio's own classes as this Python made them,
# and the reader is neither at its end nor so full that it pauses.  Everything else is asyncio's.

cdef extern from "Python.h":
    bint PyByteArray_CheckExact(object)
    Py_ssize_t PyByteArray_GET_SIZE(object)
    char *PyByteArray_AS_STRING(object)
    int PyByteArray_Resize(object, Py_ssize_t size_bytes) except -1

cdef object InvalidStateError = asyncio.InvalidStateError
cdef object StreamReader = asyncio.StreamReader
cdef tuple FEEDING = stream_feeding()


cdef bint feeds_reader(protocol):
    """Whether what the protocol receives may go straight into its reader."""
    return type(protocol) is asyncio.StreamReaderProtocol and stream_feeding() == FEEDING


cdef bint feed_reader(protocol, const char *data, Py_ssize_t size_bytes) except -1:
    """As `StreamReaderProtocol.data_received`; whether that is done, else it is to be called."""
    reference = protocol._stream_reader_wr
    reader = reference() if reference is not None else None
    if type(reader) is not StreamReader or reader._eof:
        return False
    buffer = reader._buffer
    if not PyByteArray_CheckExact(buffer):
        return False
    cdef Py_ssize_t before = PyByteArray_GET_SIZE(buffer)
    if before + size_bytes > 2 * <Py_ssize_t>reader._limit:
        return False
    PyByteArray_Resize(buffer, before + size_bytes)
    memcpy(PyByteArray_AS_STRING(buffer) + before, data, size_bytes)
    waiter = reader._waiter
    if waiter is not None:
        reader._waiter = None
        try:
            waiter.set_result(None)
        except InvalidStateError:
            # Asked beforehand, as asyncio does, it would say so for nothing nearly always.
            if not waiter.cancelled():
                raise
    return True
