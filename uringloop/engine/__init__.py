"""What runs once a message, compiled: streams, datagram sockets, TLS and `loop.sock_*`."""
