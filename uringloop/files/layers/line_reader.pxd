from .call cimport FileCall
from .file_base cimport FileBase


cdef class LineReader(FileBase):
    cdef FileCall line_call  # of the last line, used again


cdef class DecodedLines(LineReader):
    cdef public str chars
    cdef public Py_ssize_t used
    cdef public bint iterating
