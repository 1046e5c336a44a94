"""A connection joins and leaves the `asyncio.Server` that accepted it.

`Server._attach` and `_detach`, since Python 3.13 over a `WeakSet`, took a tenth of the life of a short connection.  If
server and set are asyncio's own, this module does the same to the set inside the `WeakSet`.
"""

import asyncio
from sys import version_info

cdef extern from "Python.h":
    object PyWeakref_NewRef(object referent, object callback)

cdef object Server = asyncio.Server
cdef bint SERVER_TAKES_TRANSPORT = version_info >= (3, 13)


cdef join_server(server, transport):
    """Join a server; raise as it does, since it may have been closed meanwhile."""
    if not SERVER_TAKES_TRANSPORT:
        server._attach()
    elif type(server) is not Server or server._sockets is None:
        server._attach(transport)
    else:
        clients = server._clients
        clients.data.add(PyWeakref_NewRef(transport, clients._remove))


cdef leave_server(server, transport):
    if not SERVER_TAKES_TRANSPORT:
        server._detach()
    elif type(server) is not Server or server._sockets is None:
        server._detach(transport)
    else:
        server._clients.data.discard(PyWeakref_NewRef(transport, None))
