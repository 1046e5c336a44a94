"""The pages of the reference: each public module, and each of its names, by their docstrings and stubs."""

import ast
import enum
import inspect
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_overloads

#: Each page's modules.  A module's public names are those of `__all__`, and those that are given besides.
PAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "uringloop": {"uringloop": ("EventLoopPolicy",)},
    "uringloop.files": {
        "uringloop.files": (),
        "uringloop.files.os": (),
        "uringloop.files.ospath": (),
        "uringloop.files.tempfile": (),
        "uringloop.files.threadpool": (),
        "uringloop.files.base": (),
    },
    "uringloop.streams": {"uringloop.streams": ()},
    "uringloop.ring": {"uringloop.ring": ()},
    "uringloop.operations": {"uringloop.operations": ()},
    "uringloop.metrics": {
        "uringloop.metrics.prometheus": ("LoopCollector",),
        "uringloop.metrics.opentelemetry": ("LoopInstruments",),
    },
}


def page_of(title: str) -> str:
    """Return the name of a page of the reference on the site."""
    return f"reference/{title}"


def names() -> dict[str, Any]:
    """Return each public name, dotted, with its value."""
    with warnings.catch_warnings():
        # The policy is described as long as asyncio has policies.
        warnings.simplefilter("ignore", DeprecationWarning)
        return {
            f"{title}.{name}": getattr(import_module(title), name)
            for modules in PAGES.values()
            for title, more in modules.items()
            for name in [*getattr(import_module(title), "__all__", ()), *more]
        }


def stage(folder: Path) -> list[str]:
    """Write the pages into Sphinx's folder, and return their names."""
    (folder / "reference").mkdir()
    described: dict[int, str] = {}
    for title, modules in PAGES.items():
        parts = [f"# {title}\n"]
        for module in modules:
            if len(modules) > 1:
                parts.append(f"## {module}\n")
            parts.append(restructured(f".. automodule:: {module}\n   :no-members:"))
            parts += [restructured(text) for text in entries(module, described)]
        (folder / f"{page_of(title)}.md").write_text("\n".join(parts))
    return [page_of(title) for title in PAGES]


def restructured(text: str) -> str:
    """Return a part of a Markdown page that is in reStructuredText."""
    return f"```{{eval-rst}}\n{text}\n```\n"


def entries(module: str, described: dict[int, str]) -> Iterator[str]:
    """Yield the directives of a module's names.

    Args:
        module: the module's name.
        described: the values that have an entry, by identity, with the name that it stands under; new ones are added.
    """
    for target, value in names().items():
        has_section = isinstance(value, ModuleType) and any(target in modules for modules in PAGES.values())
        if target.rpartition(".")[0] != module or has_section:
            continue
        is_object = inspect.isroutine(value) or isinstance(value, type | ModuleType)
        other = described.setdefault(id(value), target) if is_object else target
        if other != target:
            yield plain("data", target, f"The same as `{other}`.")
        else:
            yield directive(target, value)


def directive(target: str, value: Any) -> str:
    """Return the directive that describes a value under a name."""
    if isinstance(value, ModuleType):
        return plain("data", target, f"A module.  {first_line(value)}")
    if isinstance(value, enum.EnumType):
        return f".. autoclass:: {target}\n   :members:\n   :undoc-members:"
    if isinstance(value, type):
        head = f".. autoclass:: {target}{stub_signature(value)}\n"
        if not any(
            base.__module__.startswith("uringloop") and base not in public_classes() for base in value.__bases__
        ):
            head += "   :show-inheritance:\n"
        return "\n".join([head, *(f"   {member_directive(target, name, value)}" for name in members(value))])
    if inspect.isbuiltin(value) or not inspect.isroutine(value):
        listed = value if isinstance(value, dict) else {}
        lines = [comment(target) or first_line(value), "", *(f"- `{key}`: {text}" for key, text in listed.items())]
        return plain("data", target, "\n   ".join(lines))
    if hasattr(value, "dispatch"):
        # Sphinx would describe each registered function.
        return plain("function", target, first_line(value), str(inspect.signature(value)))
    return f".. autofunction:: {target}{overloaded_signature(value)}"


def plain(kind: str, target: str, text: str, arguments: str = "") -> str:
    """Return a directive without autodoc."""
    module, _, name = target.rpartition(".")
    return f".. py:{kind}:: {name}{arguments}\n   :module: {module}\n\n   {text}"


def member_directive(target: str, name: str, kind: type) -> str:
    """Return the directive that describes a class's member."""
    value = inspect.getattr_static(kind, name)
    if isinstance(value, property):
        return f".. autoproperty:: {target}.{name}"
    function = getattr(value, "__func__", value)
    if inspect.isroutine(function):
        return f".. automethod:: {target}.{name}{stub_signature(function) or overloaded_signature(function)}"
    return f".. autoattribute:: {target}.{name}"


def first_line(value: Any) -> str:
    """Return the first line of a value's docstring."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


def comment(target: str) -> str:
    """Return the `#:` comment of a name, in the module that defines it, as one line."""
    package, _, name = target.rpartition(".")
    for module in origins(import_module(package), name):
        found = re.search(rf"((?:^#: .*\n)+)^{name}\b", inspect.getsource(module), flags=re.M)
        if found:
            return " ".join(line.removeprefix("#: ") for line in found[1].splitlines())
    return ""


def origins(module: ModuleType, name: str) -> Iterator[ModuleType]:
    """Yield a module, the one that it imports a name from, and so on."""
    yield module
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and node.level and any(alias.name == name for alias in node.names):
            yield from origins(import_module("." * node.level + (node.module or ""), module.__package__), name)


@cache
def public_classes() -> frozenset[type]:
    """Return the classes that have entries of their own."""
    return frozenset(value for value in names().values() if isinstance(value, type))


def members(kind: type) -> list[str]:
    """Return the members that a class's entry describes: of it, and of bases that no entry describes."""
    found: list[str] = []
    told = {each for base in kind.__mro__[1:] if base in public_classes() for each in base.__mro__}
    for base in kind.__mro__:
        if base in told or not base.__module__.startswith("uringloop"):
            continue
        found += [name for name, value in vars(base).items() if name[0] != "_" and is_described(value)]
    return list(dict.fromkeys(found))


def is_described(value: Any) -> bool:
    """Return whether a member of a class is a method or an attribute with a docstring."""
    value = getattr(value, "__func__", value)
    return (inspect.isroutine(value) or inspect.isdatadescriptor(value)) and bool(value.__doc__)


@cache
def stub(module: str) -> list[ast.stmt]:
    """Return the body of a compiled module's stub; nothing for another module."""
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "none")
    path = file.with_name(file.name.partition(".")[0] + ".pyi")
    return ast.parse(path.read_text()).body if file.suffix == ".so" and path.exists() else []


def stub_signature(value: Any) -> str:
    """Return the signature that the stub of a compiled module declares; nothing for another class or function."""
    owner = getattr(value, "__objclass__", value)
    *outer, last = value.__qualname__.split(".")
    body = stub(owner.__module__)
    for name in outer:
        body = next((node.body for node in body if isinstance(node, ast.ClassDef) and node.name == name), [])
    node = next((node for node in body if getattr(node, "name", None) == last), None)
    if isinstance(node, ast.ClassDef):
        node = next((each for each in node.body if getattr(each, "name", None) in ("__init__", "__new__")), None)
    return declared_signature(node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""


def overloaded_signature(value: Any) -> str:
    """Return the signature of an overloaded function's implementation, which is all of them; nothing for another."""
    if not get_overloads(value):
        return ""
    node = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return declared_signature(node)


def declared_signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the signature of a function as it is written, without `self`."""
    positional = node.args.posonlyargs or node.args.args
    if positional and positional[0].arg in ("self", "cls"):
        del positional[0]
    result = node.returns if node.name not in ("__init__", "__new__") else None
    return f"({ast.unparse(node.args)})" + (f" -> {ast.unparse(result)}" if result else "")
