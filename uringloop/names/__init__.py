"""Host names and addresses: the C library looks them up in threads of the pool, which hold no GIL."""

from .resolution import NameResolution

__all__ = ["NameResolution"]
