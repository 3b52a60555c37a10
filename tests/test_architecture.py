"""Rules of the design that no single module can check."""

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import jax4dstem

ROOT = Path(jax4dstem.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "jax4dstem.")
    if not module.name.endswith("__main__")
)

# From the top down; imports point only downwards, or within one layer's package.
LAYERS = [
    {"cli", "report"},
    {"pipeline"},
    {"strain", "cluster", "anomaly"},
    {"embed"},
    {"train"},
    {"models"},
    {"simulate"},
    {"lattice"},
    {"cepstrum", "polar", "features", "detectors", "align", "reducers"},
    {"stream"},
    {"io"},
    {"dataset"},
    {"detector"},
    {"noise"},
    {"coordinates", "maxima", "smoothing"},
    {"typing", "errors"},
]
FREE = {("cli", "report"), ("features", "align"), ("features", "detectors"), ("align", "detectors")}


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def imported_parts(module: str) -> set[str]:
    """Top-level parts of the package that a module imports, anywhere in its code."""
    source = importlib.util.find_spec(module).origin
    found = set()
    for node in ast.walk(ast.parse(Path(source).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("jax4dstem.")}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    own = module.split(".")[1]
    for part in imported_parts(module) - {own}:
        downwards = layer(part) > layer(own)
        assert downwards or (own, part) in FREE, f"{module} imports {part}"


@pytest.mark.parametrize("module", MODULES)
def test_only_report_draws(module):
    source = Path(importlib.util.find_spec(module).origin).read_text()
    if module.split(".")[1] not in ("report", "cli"):
        assert "matplotlib" not in source
    assert "pyplot" not in source


def test_licensed_and_slow_packages_are_imported_lazily():
    import subprocess
    import sys

    code = (
        "import sys, jax4dstem.cli, jax4dstem.pipeline;"
        "bad = {'rsciio', 'umap', 'matplotlib', 'zarr', 'numba'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures, _ = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert failures == 0


@pytest.mark.parametrize("name", jax4dstem.__all__)
def test_public_names_are_documented(name):
    assert (getattr(jax4dstem, name).__doc__ or "").strip()
