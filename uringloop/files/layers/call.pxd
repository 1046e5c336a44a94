from ...call cimport Call


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


cdef class FileCall(Call)


cdef class CallOwner:
    cdef int check_caller(self) except -1
    cdef answer(self, FileCall call)
    cdef answer_again(self, FileCall call)
    cdef give_up(self)


cdef class FileCall(Call):
    cdef end_turn(self)


cdef FileCall make_call(CallOwner owner, CallKind kind, first, second)
cdef FileCall make_line_call(CallOwner owner)
