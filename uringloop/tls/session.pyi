import ssl

from typing_extensions import disjoint_base

def why_not() -> str: ...

@disjoint_base
class Session:
    def __init__(self, *args: object) -> None: ...
    @property
    def ssl_object(self) -> ssl.SSLObject: ...
