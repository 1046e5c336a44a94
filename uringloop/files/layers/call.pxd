cdef enum CallKind:
    READ
    READLINE
    SEEK
    WRITE
    NEXT_LINE
    OPEN
    CLOSE
    EXIT
    LOCK
    UNLOCK


cdef class FileCall


cdef class CallOwner:
    cdef answer(self, FileCall call)


cdef class FileCall:
    cdef CallKind kind
    cdef CallOwner owner
    cdef object first, second
    cdef object running


cdef FileCall make_call(CallOwner owner, CallKind kind, first, second)
cdef FileCall make_line_call(CallOwner owner)
