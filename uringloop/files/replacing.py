"""`install`: put these modules in the place of aiofiles' modules, for code that cannot be edited."""

import importlib
import sys
from types import ModuleType

_PACKAGE = __package__

#: aiofiles' modules, and the modules here that have their names.
_MODULES = {
    "aiofiles": "",
    "aiofiles.base": ".base",
    "aiofiles.os": ".os",
    "aiofiles.ospath": ".ospath",
    "aiofiles.tempfile": ".tempfile",
    "aiofiles.tempfile.temptypes": ".temptypes",
    "aiofiles.threadpool": ".threadpool",
    "aiofiles.threadpool.binary": ".wrapping",
    "aiofiles.threadpool.text": ".wrapping",
    "aiofiles.threadpool.utils": ".wrapping",
}

_replaced: dict[str, ModuleType | None] | None = None


def install() -> None:
    """Have every later `import aiofiles`, and of its modules, find `uringloop.files`.

    Names that were imported from aiofiles before keep their meaning.  aiofiles itself need not be installed.
    """
    global _replaced
    if _replaced is None:
        _replaced = {name: sys.modules.get(name) for name in _MODULES}
        sys.modules.update({name: importlib.import_module(_PACKAGE + own) for name, own in _MODULES.items()})


def uninstall() -> None:
    """Undo `install`: `import aiofiles` finds aiofiles again, if it is installed."""
    global _replaced
    if _replaced is not None:
        for name, module in _replaced.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        _replaced = None
