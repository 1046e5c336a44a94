from .endpoint cimport Endpoint


cdef join_server(Endpoint endpoint, server)
cdef leave_server(Endpoint endpoint)
