"""The package's sources, and what they import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "uringloop"
CORE = PACKAGE / "ring" / "core"

#: From the top down: imports go down this list only.
LAYERS = (
    "seccomp",
    "top",
    "metrics",
    "policy",
    "loop",
    "measuring",
    "loop_ring",
    "options",
    "signals",
    "executor",
    "scheduler",
    "scheduler_handles",
    "scheduler_timers",
    "scheduler_readers",
    "scheduler_running",
    "scheduler_calls",
    "sockets",
    "sendfile",
    "submitting",
    "names",
    "children",
    "transports",
    "streams",
    "files",
    "companion",
    "operations",
    "tls",
    "engine",
    "selector",
    "ring",
    "pool",
    "meter",
    "ready",
    "call",
    "patched",
    "immortal",
    "tick",
    "shielding",
    "hooks",
)
#: The same within files/layers/, which imports nothing of files/ above it.
FILE_LAYERS = (
    "text",
    "decoding",
    "cookie",
    "encoding",
    "writing",
    "reading",
    "buffered",
    "raw",
    "unlocked",
    "base",
    "special",
    "threads",
    "waiting",
    "freelist",
    "opening_base",
    "read_ahead",
    "raw_base",
    "line_reader",
    "file_base",
    "lock",
    "call",
    "cached",
)
#: Above all layers.
ENTRANCES = ("__init__", "__main__")


def python_files() -> list[Path]:
    """Every Python module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def cython_files() -> list[Path]:
    """Every Cython module of the package, what they declare, and what they include."""
    return sorted(path for ending in ("pyx", "pxd", "pxi") for path in PACKAGE.rglob(f"*.{ending}"))


def c_files() -> list[Path]:
    """Every C source and header; other C in the package is made by cffi."""
    return sorted(set(PACKAGE.rglob("*.[ch]")) - set(PACKAGE.rglob("_cffi.c")))


def relative(path: Path) -> str:
    """How a failing test names a source."""
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    """uringloop/ring/abi.py is uringloop.ring.abi, uringloop/ring/__init__.py is uringloop.ring."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    """Which room of the house a module is in: the name right below `uringloop`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def file_layer(module: str) -> str:
    """Which module of files/layers/ it is, the name right below `uringloop.files.layers`; empty for any other."""
    parts = module.split(".")
    return parts[3] if parts[1:3] == ["files", "layers"] and len(parts) > 3 else ""


def tree(path: Path) -> ast.Module:
    """The syntax tree, without what only a type checker sees."""
    return _Runtime().visit(ast.parse(path.read_text(), str(path)))


class _Runtime(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) for each module of the package that a source imports, also inside functions."""
    own = module_name(path).split(".")
    package = own if path.stem == "__init__" else own[:-1]
    for node in ast.walk(tree(path) if path.suffix == ".py" else _imports_of_cython(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            target = ".".join([*base, *filter(None, [node.module])])
            names = [_submodule_or(target, alias.name) for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == PACKAGE.name)


def _imports_of_cython(path: Path) -> ast.Module:
    """The import statements, which are Python except for the word cimport."""
    found = re.finditer(r"^(?:from \S+ )?c?import (?:[\w., *]+|\([^)]*\))$", path.read_text(), flags=re.M)
    return ast.parse("\n".join(match[0].replace("cimport", "import") for match in found))


def _submodule_or(package: str, name: str) -> str:
    folder = ROOT.joinpath(*package.split("."))
    is_module = any((folder / f"{name}{ending}").exists() for ending in (".py", ".pyx", ".pxd", "/__init__.py"))
    return f"{package}.{name}" if is_module else package
