from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class Fillable:
    token: int
    modifiers: int
    _dispatcher: Any
