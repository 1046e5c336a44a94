"""Positions in text, as `io.TextIOWrapper.tell` returns them: numbers that bring a decoder back to the same state.

For most encodings the number is just the offset in bytes.  Otherwise it has five parts.  To come back: go to
`position`, set the decoder's flags, decode `feed_bytes` bytes, with the end of the file if `at_end`, and skip
`skip_chars` characters of the result.
"""

from typing import Any, NamedTuple

_OFFSET_BITS = 64
#: Of each other part, as in the standard library, which takes them as signed.
_BITS = 32


class Cookie(NamedTuple):
    """A position in text.

    Attributes:
        position: in bytes from the start of the file.
        flags: the decoder's flags there.
        feed_bytes: the number of bytes to decode from there.
        skip_chars: the number of decoded characters to skip.
        at_end: whether the file ends after these bytes.
    """

    position: int
    flags: int = 0
    feed_bytes: int = 0
    skip_chars: int = 0
    at_end: bool = False

    def pack(self) -> int:
        """Return the number for this position.

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
        """Return the position for a number."""
        rest, position = divmod(packed, 1 << _OFFSET_BITS)
        flags, feed_bytes, skip_chars = (rest >> _BITS * place & (1 << _BITS) - 1 for place in range(3))
        return cls(position, flags, feed_bytes, skip_chars, bool(rest >> 3 * _BITS))


def find(decoder: Any, position: int, flags: int, data: bytes, chars: int, bytes_per_char: float) -> Cookie:
    """Return the position after the first chars characters of decoded data.

    Args:
        decoder: an incremental decoder, which gets its state back.
        position: of the first byte of data, in bytes from the start of the file.
        flags: the decoder's flags there, where it holds back no bytes.
        data: the bytes that the decoder was given.
        chars: the number of characters.
        bytes_per_char: the usual number of bytes of a character, for the first guess.

    Raises:
        OSError: the decoder returns fewer characters than before.
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
    """Find a place shortly before the wanted one, where the decoder holds back no bytes, and leave the decoder there.

    Returns:
        The place in data, the decoder's flags there, and the number of characters from there to the wanted place.
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
    """Put the decoder into a state in which it holds back no bytes.

    At the start of the file the decoder also forgets which newlines it saw.
    """
    if position == 0 and flags == 0:
        decoder.reset()
    else:
        decoder.setstate((b"", flags))


def _walk(decoder: Any, position: int, flags: int, data: bytes, start: int, chars: int) -> Cookie:
    """Return the position, searched byte by byte from start."""
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
