"""Files for asyncio with the names of aiofiles; io_uring does every read and write, not a thread.

    async with uringloop.files.open("data", "rb") as file:
        content = await file.read()

A program that used aiofiles changes one line: `import uringloop.files as aiofiles`.  `install()` is for code that
cannot be edited.
"""

from ..immortal import share
from . import os, ospath, tempfile, threadpool
from .atomic import replace_bytes, replace_text
from .direct import DirectFile, open_direct
from .layers.raw import RawFile
from .layers.reading import BufferedReader
from .layers.text import TextFile
from .layers.writing import BufferedRandom, BufferedWriter
from .path import Path
from .replacing import install, uninstall
from .threadpool import open, stderr, stderr_bytes, stdin, stdin_bytes, stdout, stdout_bytes
from .whole import (
    copy_file,
    read_bytes,
    read_many,
    read_text,
    walk,
    write_bytes,
    write_text,
)

__all__ = [
    "BufferedRandom",
    "BufferedReader",
    "BufferedWriter",
    "DirectFile",
    "Path",
    "RawFile",
    "TextFile",
    "copy_file",
    "install",
    "open",
    "open_direct",
    "os",
    "ospath",
    "read_bytes",
    "read_many",
    "read_text",
    "replace_bytes",
    "replace_text",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "tempfile",
    "threadpool",
    "uninstall",
    "walk",
    "write_bytes",
    "write_text",
]

share(__name__, "os", "pathlib")
