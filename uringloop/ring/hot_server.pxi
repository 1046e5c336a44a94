# A connection joins and leaves the `asyncio.Server` that accepted it: a part of hot.pyx.
#
# `Server._attach` and `_detach`, since Python 3.13 over a `WeakSet`, took a tenth of the life of a short connection.
# Where server and set are asyncio's own, the same is done to the set that is in the `WeakSet`.

cdef object Server = asyncio.Server
cdef bint SERVER_TAKES_TRANSPORT = version_info >= (3, 13)


cdef attach_to_server(server, transport):
    """May raise: the server may have been closed meanwhile."""
    if not SERVER_TAKES_TRANSPORT:
        server._attach()
    elif type(server) is not Server or server._sockets is None:
        server._attach(transport)
    else:
        clients = server._clients
        clients.data.add(PyWeakref_NewRef(transport, clients._remove))


cdef detach_from_server(server, transport):
    if not SERVER_TAKES_TRANSPORT:
        server._detach()
    elif type(server) is not Server or server._sockets is None:
        server._detach(transport)
    else:
        server._clients.data.discard(PyWeakref_NewRef(transport, None))
