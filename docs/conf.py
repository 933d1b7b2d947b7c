"""How the documentation is built: `nox -s docs`, with every warning an error and nothing fetched from elsewhere."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pannier"
author = "the pannier developers"
project_copyright = f"2026, {author}"
release = version_of("pannier")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "not_run",
    "soft_references",
]
exclude_patterns = ["_build", "_make", "examples/**"]
html_theme = "furo"
html_title = f"pannier {release}"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
default_role = "py:obj"
nitpick_ignore_regex = [
    ("py:class", r"pannier(_testing)?\.[\w.]+\.(C|R|T)(_co|_contra)?"),  # type variables
]
