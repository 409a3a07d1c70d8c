"""The book: Sphinx over the notebooks, as committed, and the guides. `make book` builds it without a network."""

import os
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "masslib"
author = copyright = "the masslib authors"
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "notebooks/*.ipynb",
    "notebooks/solutions/*.ipynb",
    "notebooks/README.md",
    "README.md",
    "CONTRIBUTING.md",
    "data/README.md",
]
extensions = ["myst_nb", "sphinxcontrib.bibtex"]

# Outputs are the committed ones. Progress bars are text there, so that no script for widgets has to be fetched.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

html_theme = "sphinx_book_theme"
html_title = "masslib"
html_favicon = "icon.svg"
html_context = {"default_mode": "auto"}
html_additional_pages = {"index": "front.html"}
templates_path = ["templates"]
html_theme_options: dict[str, Any] = {
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
    "use_download_button": False,
    "show_prev_next": True,
}
# On GitHub the chapters get buttons: to their source, to Binder, which installs what .binder/ says, and to Colab, where
# the lines in docs/index.md install it. Elsewhere the book has no public address that they could lead to.
repository = os.environ.get("GITHUB_REPOSITORY")
if repository:
    html_theme_options |= {
        "repository_url": f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}",
        "repository_branch": os.environ.get("GITHUB_REF_NAME", "main"),
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }
html_copy_source = False
suppress_warnings = ["mystnb.unknown_mime_type"]

_CITATION = re.compile(r"\[[^][\n\"]*\]\((?:\.\./docs/)?references\.bib#(\w+)\)")


def cite(app: Sphinx, name: str, source: list[str]) -> None:
    """Make a citation of each link to an entry of references.bib; an unknown key is a warning, and so an error."""
    source[0] = _CITATION.sub(r"{cite:t}`\1`", source[0])


def address(app: Sphinx, name: str, source: list[str]) -> None:
    """Write the repository into the lines that clone it, where the book is built by GitHub."""
    if repository and name == root_doc:
        source[0] = source[0].replace("OWNER/masslib", repository)


def math(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers draw themselves."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", cite)
    app.connect("source-read", address)
    app.add_html_math_renderer("mathml", (math, None), (math_block, None))


html_math_renderer = "mathml"
