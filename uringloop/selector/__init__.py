"""The epoll set that add_reader and add_writer use."""
