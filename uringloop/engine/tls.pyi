from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class Tls:
    def __init__(self, protocol: Any) -> None: ...
    def write(self, data: Any) -> None: ...
