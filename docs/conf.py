"""How Sphinx builds the documentation."""

from __future__ import annotations

import sys
from pathlib import Path

from acmems import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "acmems"
author = "the acmems authors"
copyright = author
release = version = __version__

extensions = [
    "command_reference",
    "configuration_reference",
    "house_picture",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_ext"]
needs_sphinx = "8.1"

html_theme = "furo"
html_title = f"acmems {release}"
html_show_sphinx = False
html_copy_source = False

# Buttons copy commands without their prompt, and without what they print.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_exclude = ".linenos, .gp, .go"

man_pages = [("commands", "acmems", "get ACME certificates for machines with openssl and curl", "", 1)]
man_make_section_directory = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Docstrings put names in single backticks.
default_role = "code"

# The build asks no other site, so names of other projects stay text; so do inner types of this one.
_OTHERS = (
    r"(acme|collections|concurrent|datetime|email|http|josepy|os|pathlib|pyasn1\w*|socket|threading)\..*"
)
_INNER = (
    r"(acmems\.[\w.]+\.)?(Authenticator|Clock|Exchange|Finding|Headers|Http01|IPNetwork|Location|ManagementServer|Message"
    r"|Options|PlugIns|Readable|Section|Validator)"
)
nitpick_ignore_regex = [("py:.*", _OTHERS), ("py:class", _INNER)]
