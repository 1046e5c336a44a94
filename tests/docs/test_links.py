"""Each link in a Markdown page to a file of this checkout, or to a heading, leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HIDDEN_OR_MADE = re.compile(r"^(\.|build$|dist$)")
PAGES = sorted(path for path in ROOT.rglob("*.md") if not any(map(HIDDEN_OR_MADE.match, path.relative_to(ROOT).parts)))
#: `[text](target)`, `![text](target "title")` and `[label]: target`.
LINK = re.compile(r"(?:\]\(|^\[[^\]]+\]:\s*)<?([^)\s>]+)", flags=re.M)


def prose(page: Path) -> str:
    """Return the page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the page's headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.*?) *$", prose(page), flags=re.M):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
        found.append(f"{slug}-{count}" if count else slug)
    return set(found)


def broken(page: Path) -> list[str]:
    """Return the links of the page that lead nowhere; an address elsewhere is not looked up."""
    left = []
    for link in LINK.findall(re.sub(r"`[^`]*`", "", prose(page))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link) is None and (
            not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        ):
            left.append(link)
    return left


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# Two `words`, here\n\n## Same\n\n## Same\n\n```sh\n# Code\n```\n")
    page.write_text(
        "# Here\n[a](#here) [b](#there) [c](other.md) [d](other.md#two-words-here) [e](other.md#same-1)\n"
        "[f](other.md#code) [g](none.md) ![h](none.png 'title') <https://example.org> [i](https://example.org/#x)\n"
        "`[j](code.md)` [label][k]\n\n[k]: none\n\n```sh\n[l](code.md)\n```\n"
    )
    assert broken(page) == ["#there", "other.md#code", "none.md", "none.png", "none"]
