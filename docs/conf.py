"""Configuration of Sphinx: `make docs` builds the pages of this folder, with no warnings."""

import knowcap

project = "knowcap"
release = knowcap.__version__
author = "the authors of knowcap"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = [".md"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository; a test checks them
html_theme = "furo"
html_title = "knowcap"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
