"""`Session`: the TLS of one connection, by OpenSSL's own functions on the SSL of an `ssl.SSLObject`.

The functions are those of the library that Python's `_ssl` has loaded.  `why_not` finds and checks them when TLS is
first used.  OpenSSL itself names each SSL that it makes, and the check finds that name in the object that `_ssl` has
made for it.  So the place of the SSL in such objects is known, and the library is the same.

An error is rare, and its exception is `_ssl`'s: OpenSSL's queue of errors still tells of it when the method of the
`SSLObject` is called.
"""

import _ssl
import ssl
import sys
import sysconfig

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from .openssl cimport (
    UL_TLS_AGAIN, UL_TLS_CLOSED, UL_TLS_DONE, UL_TLS_FAILED, ul_openssl_find, ul_openssl_missing,
    ul_openssl_unwatch, ul_openssl_version, ul_openssl_version_number, ul_openssl_watch, ul_openssl_watched,
    ul_tls_close, ul_tls_discard, ul_tls_drop, ul_tls_feed, ul_tls_has_bytes, ul_tls_keep, ul_tls_open, ul_tls_read,
    ul_tls_readable, ul_tls_sent, ul_tls_shutdown, ul_tls_write,
)

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size_bytes) except NULL
    char *bytes_of "PyBytes_AS_STRING"(PyObject *data)
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size_bytes) except -1
    object view_of "PyMemoryView_FromMemory"(char *memory, Py_ssize_t size_bytes, int flags)
    int PyBUF_READ

cdef enum:
    # The least that a version of OpenSSL must be, 1.1.1, and the first that it must not be.
    VERSION_FIRST = 0x10101000
    VERSION_END = 0x40000000
    UNKNOWN = -1

#: The place of the SSL in a `_ssl._SSLSocket`, in pointers.
cdef Py_ssize_t place = UNKNOWN
#: Why OpenSSL is not called directly; empty where it is; None before the check.
cdef str refusal = None
#: `wrap_bio` wants two; a session gives its SSL another one at once.  `_ssl` never frees one that is passed as both.
cdef object unused_incoming = ssl.MemoryBIO(), unused_outgoing = ssl.MemoryBIO()
cdef object wrapped_type = _ssl._SSLSocket
cdef tuple AGAIN = (ssl.SSLWantReadError, ssl.SSLSyscallError)


def why_not():
    """Return why OpenSSL is not called directly in this process, an empty string where it is."""
    global refusal
    if refusal is None:
        refusal = _look()
    return refusal


cdef str _look():
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this Python has no GIL, and the lock of an SSLObject is _ssl's own"
    file = getattr(_ssl, "__file__", None)
    cdef bytes path = b"" if file is None else file.encode(sys.getfilesystemencoding(), "surrogateescape")
    if ul_openssl_find(<const char *>path if path else <const char *>NULL) < 0:
        return f"_ssl hides its OpenSSL: {(<bytes>ul_openssl_missing()).decode()} is not found"
    if (<bytes>ul_openssl_version()).decode() != ssl.OPENSSL_VERSION or not ssl.OPENSSL_VERSION.startswith("OpenSSL "):
        return f"it is not the library of _ssl, {ssl.OPENSSL_VERSION}"
    if not VERSION_FIRST <= ul_openssl_version_number() < VERSION_END:
        return f"{ssl.OPENSSL_VERSION} is not known"
    if ul_openssl_watch() < 0:
        return "OpenSSL names no SSL"
    try:
        return _find_place()
    finally:
        ul_openssl_unwatch()


cdef str _find_place():
    """Find the place of the SSL in two objects of `_ssl`, by the names that OpenSSL tells; return why not, or ""."""
    global place
    cdef Py_ssize_t found = UNKNOWN
    for server_side in (False, True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        found = _place_in(context, server_side, found)
        if found < 0:
            return "an object of _ssl is not as expected"
    place = found
    return "" if _speaks() else "OpenSSL does not use a BIO that it is given"


cdef Py_ssize_t _place_in(context, server_side, Py_ssize_t expected) except? -2:
    """Return the only place of the SSL in an object that is made here, or -1."""
    cdef unsigned before, after
    cdef Py_ssize_t found = UNKNOWN, i
    cdef void **words
    ul_openssl_watched(&before)
    wrapped = context.wrap_bio(unused_incoming, unused_outgoing, server_side=server_side)
    cdef void *name = ul_openssl_watched(&after)
    inner = getattr(wrapped, "_sslobj", None)
    if after != before + 1 or type(wrapped) is not ssl.SSLObject or type(inner) is not wrapped_type:
        return UNKNOWN
    words = <void **><PyObject *>inner
    # No word is followed, only compared.
    for i in range(<Py_ssize_t>wrapped_type.__basicsize__ // <Py_ssize_t>sizeof(void *)):
        if words[i] == name:
            if found != UNKNOWN:
                return UNKNOWN
            found = i
    return found if expected == UNKNOWN or found == expected else UNKNOWN


cdef bint _speaks() except -1:
    """Return whether a client begins its handshake through the BIO of a session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    cdef Session session = open_session(context, False, None)
    if session is None:
        return False
    try:
        session.ssl_object.do_handshake()
    except ssl.SSLWantReadError:
        # A record of a handshake.
        return session.tls.records_bytes > 5 and session.tls.records[0] == 22 and session.tls.records[1] == 3
    return False


cdef Session open_session(context, server_side, server_hostname):
    """Return the session of a new `SSLObject`, None if the context makes other ones.

    Raises:
        Exception: as from `wrap_bio`.
        MemoryError: OpenSSL got no memory.
    """
    wrapped = context.wrap_bio(
        unused_incoming, unused_outgoing, server_side=server_side, server_hostname=server_hostname
    )
    inner = getattr(wrapped, "_sslobj", None)
    if type(wrapped) is not ssl.SSLObject or type(inner) is not wrapped_type:
        return None
    cdef Session session = Session.__new__(Session)
    session.ssl_object = wrapped
    if ul_tls_open(&session.tls, (<void **><PyObject *>inner)[place]) < 0:
        raise MemoryError
    return session


cdef class Session:
    """The TLS of one connection, between its plain bytes and its records.  `open_session` makes it.

    Attributes:
        ssl_object: the `ssl.SSLObject`.
    """

    def __init__(self, *_):
        raise TypeError("open_session makes sessions")

    def __dealloc__(self):
        ul_tls_close(&self.tls)

    cdef feed(self, const char *data, Py_ssize_t size_bytes):
        """Take received bytes; they must stay until `keep`."""
        if self.tls.received_bytes > 0:
            self.keep(data, size_bytes)
        else:
            ul_tls_feed(&self.tls, data, size_bytes)

    cdef keep(self, const char *data, Py_ssize_t size_bytes):
        """Copy the received bytes that OpenSSL has not taken, and these behind them."""
        if ul_tls_keep(&self.tls, data, size_bytes) < 0:
            raise MemoryError

    cdef drop(self):
        """Forget the received bytes that OpenSSL has not taken."""
        ul_tls_drop(&self.tls)

    cdef sent(self):
        """Hear that the records were sent."""
        ul_tls_sent(&self.tls)

    cdef bint has_bytes(self):
        """Return whether a read may give bytes."""
        return ul_tls_has_bytes(&self.tls)

    cdef Py_ssize_t read_into(self, char *data, Py_ssize_t size_bytes, int *end):
        """Read what has come, as far as there is room; return the number of bytes.  `end` is as of `read`."""
        return ul_tls_read(&self.tls, data, size_bytes, end)

    cdef handshake(self):
        """Go on with the handshake; return whether it is done.

        Raises:
            ssl.SSLError: it failed.
        """
        try:
            self.ssl_object.do_handshake()
        except AGAIN:
            return False
        return True

    cdef bytes read(self, int *end):
        """Read all that has come; return it, or None if it is nothing.  `end` tells how the last read ended."""
        cdef Py_ssize_t size, capacity = ul_tls_readable(&self.tls)
        cdef PyObject *whole
        end[0] = UL_TLS_AGAIN
        if capacity == 0:
            return None
        whole = new_bytes(NULL, capacity)
        size = ul_tls_read(&self.tls, bytes_of(whole), capacity, end)
        # For 0 bytes it gives the empty object.
        _PyBytes_Resize(&whole, size)
        data = <bytes>whole
        Py_DECREF(data)
        return data if size > 0 else None

    cdef read_error(self):
        """Return the exception of a failed read, at once after it; None if it is over."""
        try:
            data = self.ssl_object.read(1)
        except AGAIN:
            return None
        except Exception as error:
            return error
        return ssl.SSLError(1, "OpenSSL has failed, and goes on") if data else None

    cdef int discard(self) except -1:
        """Read and forget all that has come; return how the last read ended."""
        return ul_tls_discard(&self.tls)

    cdef bint write(self, const char *data, Py_ssize_t size_bytes) except -1:
        """Encrypt the bytes, at most INT_MAX of them; return whether OpenSSL took them.

        Raises:
            ssl.SSLError: the connection cannot go on.
            MemoryError: there is none for the records.
        """
        cdef int end = ul_tls_write(&self.tls, data, size_bytes)
        if end == UL_TLS_DONE:
            return True
        if end == UL_TLS_AGAIN:
            return False
        if self.tls.no_memory:
            raise MemoryError
        try:
            return self.ssl_object.write(view_of(<char *>data, size_bytes, PyBUF_READ)) == size_bytes
        except AGAIN:
            return False

    cdef int shutdown(self) except -1:
        """Say goodbye; return UL_TLS_DONE if the peer has said it too, else UL_TLS_AGAIN.

        Bytes that still come for the application are dropped, since nothing reads them.

        Raises:
            ssl.SSLError: the connection cannot go on.
        """
        cdef int end = ul_tls_shutdown(&self.tls)
        if end == UL_TLS_AGAIN:
            end = ul_tls_discard(&self.tls)
            if end == UL_TLS_CLOSED:
                return UL_TLS_DONE
            if end == UL_TLS_FAILED:
                error = self.read_error()
                if error is not None:
                    raise error
                return UL_TLS_AGAIN
        elif end == UL_TLS_FAILED:
            try:
                self.ssl_object.unwrap()
            except AGAIN:
                return UL_TLS_AGAIN
            return UL_TLS_DONE
        return end
