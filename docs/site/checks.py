"""Looks for faults of a built site, beyond the warnings of Sphinx."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from . import reference

#: Attributes by which a browser loads something when it shows a page.
LOADING = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """One page of the site.

    Attributes:
        anchors: the ids on it.
        links: the targets of its links.
        loaded: the addresses that a browser loads to show it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's id, and where it leads."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if tag == "a" and name == "href" and value:
                self.links.append(value)
            if (tag, name) in LOADING and value:
                self.loaded.append(value)


def faults(site: Path) -> Iterator[str]:
    """Yield what is wrong with the site, a line each."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in [*page.links, *page.loaded]:
            if not re.match(r"[a-z]+:|//", target) and not leads_somewhere(path, target, pages):
                yield f"{where}: {target} leads nowhere"
        yield from (f"{where}: loads {target}" for target in page.loaded if re.match(r"https?:|//", target))
    for style in site.rglob("*.css"):
        for target in re.findall(r"(?:url\(|@import )['\"]?(https?:|//)", style.read_text()):
            yield f"{style.relative_to(site)}: loads from {target}"
    anchors = set().union(*(page.anchors for page in pages.values()))
    yield from (f"the reference lacks {name}" for name in reference.names() if not {name, f"module-{name}"} & anchors)


def leads_somewhere(path: Path, target: str, pages: dict[Path, Page]) -> bool:
    """Return whether a page's link leads to a file, and to an id that is there."""
    name, _, anchor = target.partition("#")
    file = (path.parent / unquote(name).partition("?")[0]).resolve() if name else path
    if anchor and file in pages:
        return unquote(anchor) in pages[file].anchors
    return file.exists()
