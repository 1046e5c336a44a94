"""`Resolver`: a loop's look-ups in the pool; their arguments on the way there, their results on the way back.

It takes the arguments that programs have.  For any other one it declines, and the socket module's own function then
converts it or raises.  Results and errors are those of that function, and so are its audit events.
"""

import os
import socket
import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.limits cimport INT_MAX, INT_MIN, LONG_MAX, LONG_MIN
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

from ..engine.address cimport pack_address, parse_host, unpack_address
from ..ring.dispatcher cimport Dispatcher
from .core cimport (
    EAI_SYSTEM, addrinfo, gai_strerror, ul_job, ul_lookup, ul_lookup_free, ul_lookup_of_address, ul_lookup_of_name,
    ul_port_abandon, ul_port_close, ul_port_detain, ul_port_fd, ul_port_open_pipe, ul_port_submit, ul_port_take,
    ul_port, ul_port_withdraw,
)

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8(object text) except NULL
    bint PyLong_Check(object value)
    object PyUnicode_DecodeFSDefault(const char *text)

cdef enum:
    LABEL_MAX = 63
    # Room for the address of an internet family.
    ADDRESS_BYTES = 28

cdef int AF_INET = socket.AF_INET
cdef int AF_INET6 = socket.AF_INET6
cdef dict FAMILIES = {int(family): family for family in socket.AddressFamily}
cdef dict KINDS = {int(kind): kind for kind in socket.SocketKind}
cdef object audit = sys.audit
cdef object gaierror = socket.gaierror


def is_literal(host):
    """Return whether a host is an address literal, or None: it needs no look-up."""
    cdef char address[16]
    if host is None:
        return True
    if PyBytes_CheckExact(host):
        host = host.decode("ascii", "replace")
    return parse_host(AF_INET, host, address) or parse_host(AF_INET6, host, address)


cdef bint is_own_idna(host) except -1:
    """Return whether a host is its own IDNA form: ASCII, with labels of the usual lengths."""
    cdef Py_ssize_t label_size = 0
    cdef const char *text
    if not host.isascii():
        return False
    text = PyUnicode_AsUTF8(host)
    for place in range(<Py_ssize_t>len(host)):
        if text[place] != c".":
            label_size += 1
        elif label_size == 0 or label_size > LABEL_MAX:
            return False
        else:
            label_size = 0
    return label_size <= LABEL_MAX


cdef bint store_int(value, int *into) except -1:
    """Store an integer; return whether it is one that fits."""
    cdef int overflow = 0
    cdef long number
    if not PyLong_Check(value):
        return False
    number = PyLong_AsLongAndOverflow(value, &overflow)
    into[0] = <int>number
    return overflow == 0 and INT_MIN <= number <= INT_MAX


cdef failure(int error, int system_error):
    """Return the exception of a look-up that failed, as the socket module's."""
    if error == EAI_SYSTEM:
        return OSError(system_error, os.strerror(system_error))
    return gaierror(error, (<bytes>gai_strerror(error)).decode())


cdef list entries(const addrinfo *found):
    """Return the list that `socket.getaddrinfo` makes of results."""
    cdef list made = []
    while found != NULL:
        name = "" if found.ai_canonname == NULL else (<bytes>found.ai_canonname).decode()
        family = FAMILIES.get(found.ai_family, found.ai_family)
        kind = KINDS.get(found.ai_socktype, found.ai_socktype)
        made.append((family, kind, found.ai_protocol, name, unpack_address(<const char *>found.ai_addr)))
        found = found.ai_next
    return made


cdef class Lookup:
    """One look-up, from its submission until its result is taken or it is abandoned."""

    cdef ul_lookup *lookup  # NULL once it is no longer this object's
    cdef Resolver resolver  # None once it waits no longer
    cdef Lookup following  # of those that are taken together, until their waiters are woken
    cdef object waiter
    cdef bint of_address
    cdef bint is_lent  # the pool has it
    cdef bint is_old  # it was there at the last call of `detain_long`

    def __dealloc__(self):
        # With a resolver that was not closed, the pool may have it still, and frees it.
        if self.lookup != NULL and not self.is_lent:
            ul_lookup_free(self.lookup)

    def result(self):
        """Return the result of a look-up that has finished, as the socket module's function does.

        Raises:
            socket.gaierror: the look-up failed.
            OSError: a system call of the look-up failed.
        """
        if self.lookup.error != 0:
            raise failure(self.lookup.error, self.lookup.system_error)
        if self.of_address:
            return PyUnicode_DecodeFSDefault(self.lookup.host), (<bytes>self.lookup.port).decode()
        return entries(self.lookup.found)

    def abandon(self):
        """Give up a look-up that has not finished: its waiter is gone."""
        if self.resolver is not None:
            self.resolver.give_up(self)


cdef wake(Lookup lookup):
    """Wake the waiters of this look-up and those that follow; then raise an error of theirs, first an interrupt."""
    cdef Lookup following
    failed = None
    while lookup is not None:
        following = lookup.following
        lookup.following = None
        try:
            if not lookup.waiter.done():
                lookup.waiter.set_result(None)
        except BaseException as error:
            if failed is None or isinstance(failed, Exception):
                failed = error
        lookup = following
    if failed is not None:
        raise failed


cdef class Resolver:
    """A loop's port of the pool for look-ups, and those that wait.

    The loop does not wait awake for a short look-up: it would take the CPU from the thread that makes it.

    Args:
        dispatcher: the loop's.

    Attributes:
        has_timer: whether a timer of the loop is to call `detain_long`.

    Raises:
        OSError: there is no descriptor left.
    """

    cdef ul_port *port
    cdef set waiting
    cdef public bint has_timer
    cdef Dispatcher dispatcher
    cdef int64_t spin_ns  # the dispatcher's, while it does not wait awake; else -1

    def __cinit__(self, Dispatcher dispatcher):
        cdef int error = 0
        self.dispatcher = dispatcher
        self.spin_ns = -1
        self.waiting = set()
        self.port = ul_port_open_pipe(&error)
        if self.port == NULL:
            raise OSError(-error, os.strerror(-error))

    def __dealloc__(self):
        if self.port != NULL:
            ul_port_close(self.port)

    @property
    def fd(self):
        """Return the descriptor that is readable while look-ups have finished."""
        return ul_port_fd(self.port)

    def look_up_name(self, waiter, host, port, family, kind, proto, flags):
        """Submit a look-up of `socket.getaddrinfo`; return it, or None for arguments that this does not convert.

        Args:
            waiter: the future that is done when the look-up has finished.
            host, port, family, kind, proto, flags: the arguments of that function.

        Raises:
            UnicodeError: a host's label has no IDNA form, or the port no UTF-8.
        """
        cdef addrinfo hints
        cdef const char *host_text = NULL
        cdef const char *port_text = NULL
        memset(&hints, 0, sizeof(hints))
        if not (store_int(family, &hints.ai_family) and store_int(kind, &hints.ai_socktype)
                and store_int(proto, &hints.ai_protocol) and store_int(flags, &hints.ai_flags)):
            return None
        if PyUnicode_CheckExact(host):
            if is_own_idna(host):
                host_text = PyUnicode_AsUTF8(host)
            else:
                encoded = host.encode("idna")
                host_text = PyBytes_AS_STRING(encoded)
        elif PyBytes_CheckExact(host):
            host_text = PyBytes_AS_STRING(host)
        elif host is not None:
            return None
        if PyLong_CheckExact(port) and LONG_MIN <= port <= LONG_MAX:
            number = str(port)
            port_text = PyUnicode_AsUTF8(number)
        elif PyUnicode_CheckExact(port):
            port_text = PyUnicode_AsUTF8(port)
        elif PyBytes_CheckExact(port):
            port_text = PyBytes_AS_STRING(port)
        elif port is not None:
            return None
        audit("socket.getaddrinfo", host, port, hints.ai_family, hints.ai_socktype, hints.ai_protocol)
        return self.submit(waiter, ul_lookup_of_name(host_text, port_text, &hints), False)

    def look_up_address(self, waiter, address, flags):
        """Submit a look-up of `socket.getnameinfo`; return it, or None for arguments that this does not convert.

        Args:
            waiter: the future that is done when the look-up has finished.
            address, flags: the arguments of that function.
        """
        cdef char name[ADDRESS_BYTES]
        cdef uint32_t size_bytes
        cdef int flag_bits = 0
        if not PyTuple_CheckExact(address) or not store_int(flags, &flag_bits):
            return None
        size_bytes = pack_address(AF_INET, address, name) or pack_address(AF_INET6, address, name)
        if size_bytes == 0:
            return None
        audit("socket.getnameinfo", address)
        return self.submit(waiter, ul_lookup_of_address(name, size_bytes, flag_bits), True)

    cdef submit(self, waiter, ul_lookup *made, bint of_address):
        """Submit a look-up; return None if the system refuses a thread."""
        cdef Lookup lookup
        if made == NULL:
            raise MemoryError
        lookup = Lookup.__new__(Lookup)
        lookup.lookup = made
        lookup.waiter = waiter
        lookup.of_address = of_address
        made.owner = <PyObject *>lookup
        self.waiting.add(lookup)
        if ul_port_submit(self.port, &made.job) < 0:
            self.waiting.discard(lookup)
            return None
        lookup.is_lent = True
        lookup.resolver = self
        if self.spin_ns < 0:
            self.spin_ns = self.dispatcher.spin_ns
            self.dispatcher.spin_ns = 0
        return lookup

    cdef allow_spins(self):
        if self.spin_ns >= 0:
            self.dispatcher.spin_ns = self.spin_ns
            self.spin_ns = -1

    def take(self):
        """Wake the waiters of finished look-ups; called when the descriptor is readable.

        Raises:
            BaseException: a wake raised it; the other waiters are woken all the same.
        """
        taken = self.detach(ul_port_take(self.port))
        if not self.waiting:
            self.allow_spins()
        wake(taken)

    cdef Lookup detach(self, ul_job *job):
        """Return the first of the look-ups that the pool gave back; allocate nothing, so that none is lost."""
        cdef Lookup lookup, first = None, last = None
        while job != NULL:
            lookup = <Lookup>(<ul_lookup *>job).owner
            job = job.next
            lookup.is_lent = False
            lookup.resolver = None
            if last is None:
                first = lookup
            else:
                last.following = lookup
            last = lookup
            self.waiting.discard(lookup)
        return first

    cdef give_up(self, Lookup lookup):
        """Drop a look-up that waits.  One that runs is freed when the C library returns, perhaps never."""
        cdef ul_lookup *running = lookup.lookup
        lookup.is_lent = False
        lookup.resolver = None
        self.waiting.discard(lookup)
        if ul_port_withdraw(self.port, &running.job) == 0:
            lookup.lookup = NULL
            ul_port_abandon(self.port, &running.job)
        if not self.waiting:
            self.allow_spins()

    def detain_long(self):
        """Have other threads take the place of those whose look-ups were there at the last call.

        Returns:
            Whether look-ups wait, so that this is to be called again.
        """
        cdef Lookup lookup
        self.allow_spins()
        for lookup in self.waiting:
            if lookup.is_old:
                ul_port_detain(self.port, &lookup.lookup.job)
            lookup.is_old = True
        return bool(self.waiting)

    def close(self):
        """Close the port; drop the look-ups that wait, whatever they do."""
        cdef Lookup lookup
        for lookup in tuple(self.waiting):
            self.give_up(lookup)
        ul_port_close(self.port)
        self.port = NULL
