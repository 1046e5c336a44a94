"""The names of `aiofiles.base`; `install` puts this module in its place.

`wrapping` holds the classes that call a file's methods in threads.  The base of the files that `open` returns is
`uringloop.files.layers.base.File`.
"""

from .wrapping import AiofilesContextManager, AsyncBase, AsyncIndirectBase, wrap

__all__ = ["AiofilesContextManager", "AsyncBase", "AsyncIndirectBase", "wrap"]
