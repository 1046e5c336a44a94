"""`OpeningBase`: the compiled base of the object that `open` returns."""

from types import CoroutineType

from .call cimport EXIT, OPEN, CallOwner, FileCall, make_call
from .read_ahead cimport ReadAhead

from ...call import looks_async

# Held in a C variable, because Python would look a global name up in a dict each time.
cdef object Coroutines = CoroutineType


cdef class OpeningBase(CallOwner):
    """The base of the object that `open` returns: `await` or `async with` opens the file.

    Args:
        opens: a function that returns a file, or a coroutine for one, or None to be called again after other callbacks.
        arguments: the function's arguments.

    Attributes:
        _file: the open file, None before the opening and after the end.
    """

    def __cinit__(self, opens, *arguments):
        self.opens = opens
        self.arguments = arguments

    def __await__(self):
        return make_call(self, OPEN, None, None)

    def __aenter__(self):
        return make_call(self, OPEN, None, None)

    def __aexit__(self, kind, value, traceback):
        return make_call(self, EXIT, (kind, value, traceback), None)

    cdef answer(self, FileCall call):
        return self.open_here(call) if call.kind == OPEN else self.close_here(call)

    cdef open_here(self, FileCall call):
        if self._file is None:
            file = self.opens(*self.arguments)
            if file is None:
                call.running = self
                return call
            if type(file) is Coroutines:
                call.running = self._keep(file)
                return call
            self._file = file
        return self._file

    cdef answer_again(self, FileCall call):
        return self.open_here(call)

    cdef close_here(self, FileCall call):
        file, self._file = self._file, None
        if file is None:
            return None
        if isinstance(file, ReadAhead):
            return (<ReadAhead>file).close_here(call)
        call.running = file.__aexit__(*call.first)
        return call


looks_async(OpeningBase.__aenter__, OpeningBase.__aexit__)
