"""`loop.sendfile` and `loop.sock_sendfile`: cached bytes go at once, the others are read in the ring."""

from .sending import FileSending

__all__ = ["FileSending"]
