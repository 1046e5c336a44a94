"""`encoded`: text as the bytes of a whole file."""

import io


def encoded(data: str, encoding: str | None, errors: str | None, newline: str | None) -> bytes:
    """Return the bytes that a file opened with these arguments would have after a write of data.

    Args:
        data: the text.
        encoding: see `open`.
        errors: see `open`.
        newline: see `open`.

    Raises:
        LookupError: there is no such encoding, or it is not one of text.
        TypeError: data is not a string.
        UnicodeEncodeError: the encoding has no such character.
    """
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    content = io.BytesIO()
    with io.TextIOWrapper(content, io.text_encoding(encoding), errors, newline) as text:
        text.write(data)
        text.flush()
        return content.getvalue()
