"""Every pattern function, by the same rules: jit = no jit = vmap, gradients = finite differences."""

import importlib
import inspect
import pkgutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pattern_cases import CASES, arguments, derivatives

import jax4dstem
from jax4dstem import embed

# Compiled for tens of seconds; FitLattice, of which each is made, stands for them in the main suite.
MADE_OF_FITS = {"MeasureLattice", "FitPair", "MeasurePair"}


def marked(names):
    return [pytest.param(n, marks=[pytest.mark.whole] * (n in MADE_OF_FITS)) for n in names]


@pytest.mark.parametrize("name", marked(CASES))
def test_jit_and_vmap_and_the_type_of_counts_change_nothing(name, rng):
    """In double precision, where a difference shows; the test of exports looks at single precision."""
    case = CASES[name]
    with jax.enable_x64(True):
        pattern, *rest = arguments(case, rng)
        counts = jnp.round(pattern)
        batch = jnp.stack([counts, 2 * counts + 1, counts[::-1]])
        compiled = jax.jit(case.fn)
        lifted = jax.jit(jax.vmap(case.fn, (0, *(None for _ in rest))))
        integers = lifted(batch.astype(jnp.uint16), *rest)
        for i in range(3):
            one = jax.tree.map(lambda leaf, i=i: leaf[i], integers)
            chex.assert_trees_all_close(one, compiled(batch[i], *rest), rtol=1e-9, atol=1e-9)
        if case.eager:
            plain = case.fn(counts, *rest)
            chex.assert_trees_all_close(compiled(counts, *rest), plain, rtol=1e-9, atol=1e-9)
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(integers) if leaf.dtype.kind == "f"}
        assert dtypes <= {np.dtype("float64")}


@pytest.mark.parametrize("name", marked(n for n, case in CASES.items() if not case.flat))
def test_gradients_are_finite_differences(name, rng):
    with jax.enable_x64(True):
        given, tree = jax.tree.flatten(arguments(CASES[name], rng))
        for argument, both in derivatives(CASES[name], given, tree, 5e-7, rng).items():
            exact, difference = both
            # Heights that are fitted by weights held fixed leave 2e-4 (total_deviance); the others agree to 1e-6.
            assert exact == pytest.approx(difference, rel=3e-4, abs=1e-4), argument


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.flat])
def test_what_has_no_gradient_does_not_move(name, rng):
    """A small change changes nothing at all; only then may a function be left out of the test above."""
    case = CASES[name]
    with jax.enable_x64(True):
        pattern, *rest = arguments(case, rng)
        moved = pattern + 1e-6 * rng.normal(size=pattern.shape)
        chex.assert_trees_all_equal(case.fn(moved, *rest), case.fn(pattern, *rest))


def test_project_is_the_inverse_of_a_basis():
    components = jnp.eye(4)[:2]
    assert embed.project(jnp.arange(4.0), jnp.ones(4), components).tolist() == [-1.0, 0.0]


def pattern_functions() -> set[str]:
    """Public functions, callable classes and methods of the package whose first argument is a pattern."""
    found = set()
    for module in pkgutil.walk_packages(jax4dstem.__path__, "jax4dstem."):
        if module.name.endswith("__main__"):
            continue
        for name, item in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(item, "__module__", None) != module.name:
                continue
            if inspect.isfunction(item) and takes_a_pattern(item, 0):
                found.add(name)
            elif inspect.isclass(item):
                methods = {
                    key: value for key, value in vars(item).items() if inspect.isfunction(value)
                }
                if "__call__" in methods and takes_a_pattern(methods.pop("__call__"), 1):
                    found.add(name)
                found |= {
                    f"{name}.{key}"
                    for key, value in methods.items()
                    if not key.startswith("_") and takes_a_pattern(value, 1)
                }
    return found


def takes_a_pattern(fn, position: int) -> bool:
    parameters = list(inspect.signature(fn).parameters.values())
    if len(parameters) <= position:
        return False
    kind = str(parameters[position].annotation)
    on_detector = "det_y det_x" in kind or "half_x" in kind
    return parameters[position].name == "pattern" or (on_detector and "ndarray" not in kind)


# First and second derivatives of total_deviance, which has a case; what is summed over fits to learn from, whose weights are held
# fixed: tests/test_probe.py; and the two halves of score_beside, which has one.
DERIVED = {
    "PatternInformation",
    "expected_around",
    "position_scatter",
    "SumResiduals",
    "ScatterOfDisks",
    "FindShapes",
    "contrast_without",
    "score_apart",
}


def test_every_pattern_function_has_a_case():
    assert pattern_functions() - set(CASES) == DERIVED
