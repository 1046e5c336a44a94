from typing import final

@final
class ReadyQueue: ...
