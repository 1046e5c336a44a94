"""Positions in text, as `io.TextIOWrapper.tell` gives them: numbers that bring a decoder back to the same state.

For most encodings it is just the offset in bytes.  Otherwise: go to `position`, set the decoder's flags, feed it so
many bytes, with the end of the file if need be, and skip so many characters of what it gives.
"""

from typing import Any, NamedTuple

_OFFSET_BITS = 64
#: Of the other parts, as in the standard library, which takes them as signed.
_BITS = 32


class Cookie(NamedTuple):
    """A position in text."""

    position: int
    flags: int = 0
    feed_bytes: int = 0
    skip_chars: int = 0
    at_end: bool = False

    def pack(self) -> int:
        """The number for it.

        Raises:
            OverflowError: the decoder has more flags than a position has room for.
        """
        packed = int(self.at_end)
        for part in (self.skip_chars, self.feed_bytes, self.flags):
            if part >> _BITS - 1:
                raise OverflowError("this encoding has a state that no position can hold")
            packed = packed << _BITS | part
        return packed << _OFFSET_BITS | self.position

    @classmethod
    def unpack(cls, packed: int) -> "Cookie":
        """The position for a number."""
        rest, position = divmod(packed, 1 << _OFFSET_BITS)
        flags, feed_bytes, skip_chars = (rest >> _BITS * place & (1 << _BITS) - 1 for place in range(3))
        return cls(position, flags, feed_bytes, skip_chars, bool(rest >> 3 * _BITS))


def find(decoder: Any, position: int, flags: int, data: bytes, chars: int, bytes_per_char: float) -> Cookie:
    """The position after so many characters of what the decoder makes of data, which begins at the given position.

    Args:
        decoder: is given back in the state in which it came.
        position: of the first byte of the data.
        flags: of the decoder there, where it holds back no bytes.
        data: as it was fed to the decoder.
        chars: how many characters to go on.
        bytes_per_char: about how many bytes make a character; how far to look first.

    Raises:
        OSError: the decoder gives fewer characters than it did.
    """
    state = decoder.getstate()
    try:
        start, flags, chars = _safe_start(decoder, position, flags, data, chars, bytes_per_char)
        if not chars:
            return Cookie(position + start, flags)
        return _walk(decoder, position, flags, data, start, chars)
    finally:
        decoder.setstate(state)


def _safe_start(
    decoder: Any, position: int, flags: int, data: bytes, chars: int, bytes_per_char: float
) -> tuple[int, int, int]:
    """A place shortly before the one looked for, where the decoder holds back no bytes.

    Returns:
        The place, the decoder's flags there, and the characters that follow.  The decoder is left there.
    """
    start, step = min(int(bytes_per_char * chars), len(data)), 1
    while start > 0:
        _begin(decoder, position, flags)
        count = len(decoder.decode(data[:start]))
        if count <= chars:
            held, new_flags = decoder.getstate()
            if not held:
                return start, new_flags, chars - count
            start -= len(held)
            step = 1
        else:
            start -= step
            step *= 2
    _begin(decoder, position, flags)
    return 0, flags, chars


def _begin(decoder: Any, position: int, flags: int) -> None:
    """Put the decoder where it holds back no bytes.  At the start of the file it also forgets which newlines it saw."""
    if position == 0 and flags == 0:
        decoder.reset()
    else:
        decoder.setstate((b"", flags))


def _walk(decoder: Any, position: int, flags: int, data: bytes, start: int, chars: int) -> Cookie:
    """From there on byte by byte."""
    safe = Cookie(position + start, flags, skip_chars=chars)
    fed = decoded = 0
    for place in range(start, len(data)):
        fed += 1
        decoded += len(decoder.decode(data[place : place + 1]))
        held, flags = decoder.getstate()
        if not held and decoded <= safe.skip_chars:
            safe = Cookie(safe.position + fed, flags, skip_chars=safe.skip_chars - decoded)
            fed = decoded = 0
        if decoded >= safe.skip_chars:
            return safe._replace(feed_bytes=fed)
    decoded += len(decoder.decode(b"", True))
    if decoded < safe.skip_chars:
        raise OSError("can't reconstruct logical file position")
    return safe._replace(feed_bytes=fed, at_end=True)
