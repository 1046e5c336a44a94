"""`LineReader`: the compiled base of a file that is iterated over by lines; `DecodedLines` is that of a text file."""

from cpython.object cimport PyObject, PyTypeObject

from .call cimport NEXT_LINE, FileCall, make_call, make_line_call
from .file_base cimport FileBase

from ...call import looks_async

cdef extern from *:
    """
    /* Return the line that begins at start, and move start behind it; None if the text does not have its end. */
    static PyObject *line_from(PyObject *text, Py_ssize_t *start)
    {
        Py_ssize_t length = PyUnicode_GET_LENGTH(text), end;
        PyObject *line;
        if (PyUnicode_IS_ASCII(text)) {
            const char *data = (const char *)PyUnicode_1BYTE_DATA(text) + *start;
            const char *newline = (const char *)memchr(data, '\\n', length - *start);
            if (newline == NULL)
                Py_RETURN_NONE;
            end = *start + (newline + 1 - data);
            line = PyUnicode_New(end - *start, 127);
            if (line != NULL)
                memcpy(PyUnicode_1BYTE_DATA(line), data, end - *start);
        } else {
            end = PyUnicode_FindChar(text, '\\n', *start, length, 1) + 1;
            if (end <= 0)
                Py_RETURN_NONE;
            line = PyUnicode_Substring(text, *start, end);
        }
        if (line != NULL)
            *start = end;
        return line;
    }

    /* Whether one reference alone is left; not to be asked where another thread may make more. */
    #ifdef Py_GIL_DISABLED
    #define is_unshared(object) 0
    #else
    #define is_unshared(object) (Py_REFCNT(object) == 1)
    #endif

    static void take_anext(PyTypeObject *type, PyTypeObject *base)
    {
        type->tp_as_async->am_anext = base->tp_as_async->am_anext;
    }
    """
    object line_from(str text, Py_ssize_t *start)
    bint is_unshared(PyObject *object)
    void take_anext(PyTypeObject *type, PyTypeObject *base)


cdef class LineReader(FileBase):
    """A file that is iterated over by lines.

    `next_line` is a coroutine function of the Python class, for a line that is not there at once.
    """

    cdef answer(self, FileCall call):
        call.running = self.next_line()
        return call

    def __aiter__(self):
        return self

    def __anext__(self):
        # The call of the line before, as a rule: to make one takes as long as to find the line.
        if self.line_call is not None and is_unshared(<PyObject *>self.line_call):
            if self.line_call.owner is None and self.line_call.running is None:
                self.line_call.owner = self
                return self.line_call
        self.line_call = make_line_call(self)
        return self.line_call

    def next_call(self):
        """Return the next line, as `__anext__`: for code that calls it by name, which takes a function."""
        return make_call(self, NEXT_LINE, None, None)


cdef class DecodedLines(LineReader):
    """The base of a text file: lines of the text that was decoded last.

    Attributes:
        chars: the text that was decoded last.
        used: the number of its characters that were read.
        iterating: whether the next lines are served from here; then lines end with "\\n" alone.
    """

    def __cinit__(self, *args, **kwargs):
        self.chars = ""

    cdef answer(self, FileCall call):
        if self.iterating:
            line = line_from(self.chars, &self.used)
            if line is not None:
                return line
        call.running = self.next_line()
        return call


def iterated(type kind):
    """Decorate a class: `async for` calls `LineReader.__anext__` directly, and looks the method up no more."""
    kind.__anext__ = LineReader.next_call
    take_anext(<PyTypeObject *>kind, <PyTypeObject *>LineReader)
    return kind


looks_async(LineReader.next_call)
