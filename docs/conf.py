"""How the site is built: ``python -m sphinx -W --keep-going -c docs . docs/_build/html``.

The source is the whole repository, so that a link between two pages is the same on GitHub and on the site. Notebooks are
executed by the build, the Python of other pages by ``tests/test_docs.py``.
"""

import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PROJECT = DOCS.parent
sys.path[:0] = [str(PROJECT), str(DOCS), str(DOCS / "ext")]
# Kernels of notebooks: the package of this checkout, and the compiled programs of the last build.
os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(DOCS / "_build" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

project = "jax4dstem"
author = "The jax4dstem developers"
release = version = installed("jax4dstem")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "api_pages",
    "other_pages",
]

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "experiments/*/README.md",
    "benchmarks/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = ["docs/_build", "**/.*", ".*", "build", "dist", "jax4dstem", "tests"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "_build" / "notebooks")
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_merge_streams = True

default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"jax4dstem {version}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_extra_path = ["extra"]
html_static_path = ["static"]
html_css_files = ["site.css"]
