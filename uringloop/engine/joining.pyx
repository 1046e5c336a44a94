"""A connection joins and leaves the `asyncio.Server` that accepted it.

Since Python 3.13 a server keeps its connections in a `WeakSet`, for `close_clients` and the like.  A weak reference and
a place in a set are 145 bytes, and took a tenth of the life of a short connection.  But each endpoint knows its server,
and the loop knows its endpoints.  So a server of asyncio's own class gets a `Clients` in place of the set: it counts.
"""

import asyncio
from sys import version_info

from ..ring.dispatcher cimport Dispatcher

cdef extern from "Python.h":
    object PyWeakref_NewRef(object referent, object callback)

cdef object Server = asyncio.Server
cdef bint SERVER_TAKES_TRANSPORT = version_info >= (3, 13)


cdef class Clients:
    """The connections of one server, with the methods of a set that `asyncio.Server` uses.

    Attributes:
        others: the set that this replaces, for transports of other packages.
    """

    cdef object server  # a weak reference
    cdef readonly object others
    cdef Dispatcher dispatcher
    cdef Py_ssize_t count

    def __len__(self):
        return self.count + len(self.others)

    def __iter__(self):
        return iter(self.copy())

    def __contains__(self, transport):
        return transport in self.copy()

    def add(self, transport):
        self.others.add(transport)

    def discard(self, transport):
        self.others.discard(transport)

    def copy(self):
        """Return a list of the transports."""
        cdef Endpoint endpoint
        cdef list transports = list(self.others)
        server = self.server()
        for endpoint in self.dispatcher.owners:
            if endpoint.server is not None and endpoint.server is server and endpoint.transport is not None:
                transports.append(endpoint.transport)
        return transports


cdef Clients clients_of(server, Dispatcher dispatcher):
    """Return the clients of a server, which from now on are a `Clients`."""
    cdef Clients clients
    known = server._clients
    if type(known) is Clients:
        return known
    clients = Clients.__new__(Clients)
    clients.server, clients.others, clients.dispatcher = PyWeakref_NewRef(server, None), known, dispatcher
    server._clients = clients
    return clients


cdef join_server(Endpoint endpoint, server):
    """Join a server; raise as it does, since it may have been closed meanwhile."""
    cdef Clients clients
    if not SERVER_TAKES_TRANSPORT:
        server._attach()
    elif type(server) is not Server:
        server._attach(endpoint.transport)
    else:
        if server._sockets is None:
            server._attach(endpoint.transport)  # its assertion fails, but not with `python -O`
            server._clients.discard(endpoint.transport)
        clients = clients_of(server, endpoint.engine.dispatcher)
        clients.count += 1
    endpoint.server = server


cdef leave_server(Endpoint endpoint):
    cdef Clients clients
    server, endpoint.server = endpoint.server, None
    if server is None:
        return
    if not SERVER_TAKES_TRANSPORT:
        server._detach()
        return
    if type(server) is Server and type(server._clients) is Clients:
        clients = server._clients
        clients.count -= 1
        if server._sockets is not None:
            return
    server._detach(endpoint.transport)
