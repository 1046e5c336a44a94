"""Every operation of io_uring, on a real ring."""
