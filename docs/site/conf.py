"""Sphinx's settings.  The site asks no other host for a font, a script or a style, and can be read without scripts."""

from typing import Any

from pygments.lexers.special import TextLexer

from docs.site import docstrings
from uringloop import __version__

project = "uringloop"
version = release = __version__
copyright = "the authors of uringloop"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"uringloop {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "default"
pygments_dark_style = "github-dark"
# The anchors of the repository's host.
myst_heading_anchors = 4
# A word in backticks is code, as in Markdown.
default_role = "code"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
highlight_language = "text"


def setup(app: Any) -> None:
    """Register how docstrings are read, and a language that Pygments does not know."""
    app.add_lexer("bpftrace", TextLexer)
    docstrings.setup(app)
