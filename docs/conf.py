"""How Sphinx builds the site (`scripts/docs`).

Its source folder is the repository, so links between documents work here as they do there.
"""

import importlib.metadata

project = "Chiron"
author = "The Chiron authors"
copyright = author  # noqa: A001  Sphinx asks for this name
release = importlib.metadata.version("chiron-ml")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "builders/README.md"]
exclude_patterns = ["**/.*", "build", ".venv"]

html_theme = "furo"  # light and dark, readable without script
html_title = "Chiron"

myst_heading_anchors = 4  # links to headings, by the names that GitHub gives them
default_role = "code"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
