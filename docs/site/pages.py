"""The pages of the site, their order, and how Sphinx gets them.

A page is a Markdown file of the checkout, which the repository's host shows as well.  Its links lead to files of the
checkout.  The copy for Sphinx has links to pages of the site instead, and to copies of the other files.
"""

import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Each part of the navigation: its caption, and its pages by their place in the checkout.
PARTS: dict[str, tuple[str, ...]] = {
    "Start": ("docs/tutorial.md", "docs/loop.md", "docs/libraries.md"),
    "Guides": (
        "docs/servers.md",
        "docs/clients.md",
        "docs/streams.md",
        "docs/tls.md",
        "docs/children.md",
        "docs/files.md",
        "docs/cores.md",
        "docs/containers.md",
        "docs/seeing.md",
        "docs/tracing.md",
        "docs/ring.md",
        "docs/operations.md",
    ),
    "Moving here": ("docs/from-uvloop.md", "docs/from-aiofiles.md", "docs/asyncio.md"),
    "Facts": ("docs/speed.md", "docs/trust.md", "docs/limits.md", "docs/kernel.md", "docs/kernels.md"),
    "Inside": (
        "ARCHITECTURE.md",
        "docs/decisions.md",
        "benchmarks/NOTES.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "CODE_OF_CONDUCT.md",
    ),
}
#: The part that ends with the pages of `docs/` that no part names.
REST = "Facts"
#: The part that the reference comes before.
AFTER_REFERENCE = "Facts"
START = "README.md"
#: `[text](target)`, `![text](target)`, `[label]: target`, and `src="target"`.
LINK = re.compile(r'(?P<before>\]\(|^\[[^\]]+\]:\s*|\bsrc=")(?P<target>[^)\s>"#]+)(?P<anchor>#[\w-]+)?', flags=re.M)
BLOCK = re.compile(r"(^```.*?^```$|`[^`\n]*`)", flags=re.M | re.S)


def name_of(source: str) -> str:
    """Return the name of a page on the site, without an ending; source is its place in the checkout."""
    if source == START:
        return "index"
    if source == "benchmarks/NOTES.md":
        return "measurements"
    return Path(source).stem.lower().replace("_", "-")


def parts() -> dict[str, list[str]]:
    """Return each part's pages, by their place in the checkout."""
    named = {source for part in PARTS.values() for source in part}
    rest = sorted({str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")} - named)
    return {caption: [*part, *(rest if caption == REST else ())] for caption, part in PARTS.items()}


def sources() -> list[str]:
    """Return each page's place in the checkout, the start page first."""
    return [START, *(source for part in parts().values() for source in part)]


def stage(folder: Path, reference: list[str], public: Collection[str]) -> None:
    """Write each page, with links of the site, and copy the files that it links to.

    Args:
        folder: where Sphinx finds them.
        reference: the names of the reference's pages, for the navigation.
        public: the dotted names that the reference describes.
    """
    names = {(ROOT / source).resolve(): name_of(source) for source in sources()}
    for source in sources():
        text = with_links_of_the_site((ROOT / source).read_text(), (ROOT / source).parent, folder, names)
        text = with_links_to_the_reference(text, public)
        if source == START:
            text += "".join(navigation(reference))
        (folder / f"{name_of(source)}.md").write_text(text)


def navigation(reference: list[str]) -> Iterator[str]:
    """Yield the start page's toctrees, which are hidden there."""
    for caption, pages in parts().items():
        if caption == AFTER_REFERENCE:
            yield toctree("Reference", reference)
        yield toctree(caption, [name_of(page) for page in pages])


def toctree(caption: str, names: list[str]) -> str:
    """Return a directive that puts pages into the navigation."""
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""])


def with_links_of_the_site(text: str, beside: Path, folder: Path, names: dict[Path, str]) -> str:
    """Return a page with other links.

    Args:
        text: the page.
        beside: the folder of the checkout that its links begin at.
        folder: Sphinx's, which gets the files that are no pages.
        names: the site's names of the pages, by their files.
    """

    def replaced(link: re.Match[str]) -> str:
        target = (beside / link["target"]).resolve()
        if re.match(r"[a-z]+:", link["target"]) or not target.exists():
            return link[0]
        if target in names:
            return f"{link['before']}{names[target]}.md{link['anchor'] or ''}"
        copy = folder / target.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, copy)
        return f"{link['before']}{target.relative_to(ROOT)}{link['anchor'] or ''}"

    parts = BLOCK.split(text)
    return "".join(part if number % 2 else LINK.sub(replaced, part) for number, part in enumerate(parts))


def with_links_to_the_reference(text: str, public: Collection[str]) -> str:
    """Return a page whose public names in backticks lead to their entries, but for those in a link's text."""
    parts = BLOCK.split(text)
    for number in range(1, len(parts), 2):
        if parts[number].strip("`") in public and not parts[number - 1].endswith("["):
            parts[number] = "{py:obj}" + parts[number]
    return "".join(parts)
