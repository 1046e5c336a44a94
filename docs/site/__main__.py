"""Builds the site into `.docs/html` and checks it.  A warning of Sphinx, or a fault that a check finds, is an error."""

import shutil
import sys

from sphinx.cmd.build import main as sphinx

from . import checks, pages, reference

FOLDER = pages.ROOT / ".docs"


def main() -> int:
    """Build the site, and return the exit code."""
    source, site = FOLDER / "source", FOLDER / "html"
    shutil.rmtree(FOLDER, ignore_errors=True)
    source.mkdir(parents=True)
    shutil.copytree(pages.ROOT / "docs/site/static", source / "static")
    pages.stage(source, reference.stage(source), reference.names())
    options = ["-q", "-W", "--keep-going", "-c", str(pages.ROOT / "docs/site"), "-d", str(FOLDER / "doctrees")]
    status = sphinx([*options, str(source), str(site)])
    found = list(checks.faults(site))
    print(*found, sep="\n", file=sys.stderr)
    if status or found:
        return 1
    print(f"{len(list(site.rglob('*.html')))} pages, {len(reference.names())} names: {site / 'index.html'}")
    return 0


sys.exit(main())
