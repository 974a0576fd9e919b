"""How Sphinx makes the site: from the READMEs where they lie, and from the docstrings."""

from __future__ import annotations

import re
from typing import Any

project = "paramserver"
author = "the paramserver developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "protocol/SECURITY.md",
    "*/README.md",
    "scripts/examples/*/README.md",
    "scripts/*/README.md",
    "scripts/site/*.md",
]
exclude_patterns = [".*", "build", "ps/server", "ps/worker", "ps/protocol"]
root_doc = "README"
html_theme = "furo"
html_title = "paramserver"
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"

PAGES = (
    "worker",
    "server",
    "ps",
    "protocol",
    "scripts/engines",
    "scripts/containers",
    "scripts/examples/hospitals",
    "scripts/bench",
    "tests",
)
TREE = (
    "\n\n```{toctree}\n:hidden:\n\n"
    + "\n".join(f"{page}/README" for page in PAGES)
    + "\nSECURITY\nprotocol/SECURITY\nscripts/site/api\nCONTRIBUTING\nCHANGELOG\n```\n"
)


def only_pages(app: Any, page: str, source: list[str]) -> None:
    """Leave links to code and folders out of a page: the site has none. Give the first page the list of all others."""
    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)(?![^)]*\.md)[^)]+\)", r"\1", source[0])
    if page == root_doc:
        source[0] += TREE


def setup(app: Any) -> None:
    app.connect("source-read", only_pages)
