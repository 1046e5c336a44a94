"""The modes of `open` as types, so that a type checker knows the kind of file."""

from typing import Literal

ReadMode = Literal["rb", "br"]
WriteMode = Literal["wb", "bw", "ab", "ba", "xb", "bx"]
UpdateMode = Literal[
    "rb+", "r+b", "br+", "b+r", "wb+", "w+b", "bw+", "b+w", "ab+", "a+b", "ba+", "b+a", "xb+", "x+b", "bx+", "b+x"
]
BinaryMode = ReadMode | WriteMode | UpdateMode
TextMode = Literal[
    "r",
    "w",
    "a",
    "x",
    "rt",
    "tr",
    "wt",
    "tw",
    "at",
    "ta",
    "xt",
    "tx",
    "r+",
    "w+",
    "a+",
    "x+",
    "rt+",
    "r+t",
    "tr+",
    "t+r",
    "wt+",
    "w+t",
    "tw+",
    "t+w",
    "at+",
    "a+t",
    "ta+",
    "t+a",
    "xt+",
    "x+t",
    "tx+",
    "t+x",
]
