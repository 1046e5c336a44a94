cdef join_server(server, transport)
cdef leave_server(server, transport)
