from typing_extensions import disjoint_base

from ..meter import Meter
from .dispatcher import Dispatcher

def dispatch_metered(dispatcher: Dispatcher, meter: Meter) -> None: ...

@disjoint_base
class Timing:
    def __init__(self, dispatcher: Dispatcher, meter: Meter) -> None: ...
    def end(self) -> int: ...
