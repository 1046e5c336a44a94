"""The C core of io_uring, and its cffi binding."""
