"""`encoded`: a text as the bytes of a whole file."""

import io


def encoded(data: str, encoding: str | None, errors: str | None, newline: str | None) -> bytes:
    """What `open` would make of the text, with these arguments.

    Raises:
        TypeError: it is no text.
        UnicodeEncodeError: the encoding has no such character.
    """
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    content = io.BytesIO()
    with io.TextIOWrapper(content, io.text_encoding(encoding), errors, newline) as text:
        text.write(data)
        text.flush()
        return content.getvalue()
