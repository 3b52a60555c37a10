"""Every pattern function, by the same rules: jit = no jit = vmap, gradients = finite differences."""

import importlib
import inspect
import pkgutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from pattern_cases import CASES, arguments

import jax4dstem
from jax4dstem import embed


@pytest.mark.parametrize("name", CASES)
def test_jit_and_vmap_change_nothing(name, rng, precision):
    case = CASES[name]
    pattern, *rest = arguments(case, rng)
    fn = case.plain(precision)
    plain = fn(pattern, *rest)
    tolerance = (
        {"rtol": 2e-4, "atol": 2e-4} if precision == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    )
    chex.assert_trees_all_close(jax.jit(case.fn)(pattern, *rest), plain, **tolerance)
    batch = jnp.stack([pattern, 2 * pattern + 1, pattern[::-1]])
    lifted = jax.jit(jax.vmap(case.fn, (0, *(None for _ in rest))))(batch, *rest)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], lifted)
        chex.assert_trees_all_close(one, fn(batch[i], *rest), **tolerance)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(plain) if leaf.dtype.kind == "f"}
    assert dtypes <= {np.dtype(precision)}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.flat])
def test_gradients_are_finite_differences(name, rng):
    case = CASES[name]
    with jax.enable_x64(True):
        given, tree = jax.tree.flatten(arguments(case, rng))
        floats = [i for i, value in enumerate(given) if value.dtype.kind == "f"]

        def of_floats(*values):
            full = list(given)
            for i, value in zip(floats, values, strict=True):
                full[i] = jnp.asarray(value)
            return case.fn(*jax.tree.unflatten(tree, full))

        check_grads(
            jax.jit(of_floats),
            [given[i] for i in floats],
            order=1,
            modes=("rev",),
            eps=1e-6,
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.flat])
def test_what_has_no_gradient_does_not_move(name, rng):
    """A small change changes nothing at all; only then may a function be left out of the test above."""
    case = CASES[name]
    with jax.enable_x64(True):
        pattern, *rest = arguments(case, rng)
        moved = pattern + 1e-6 * rng.normal(size=pattern.shape)
        chex.assert_trees_all_equal(case.fn(moved, *rest), case.fn(pattern, *rest))


@pytest.mark.parametrize("name", CASES)
def test_integer_counts_are_accepted(name, rng):
    case = CASES[name]
    pattern, *rest = arguments(case, rng)
    counts = jnp.round(pattern).astype(jnp.uint16)
    fn = case.plain()
    floats = fn(counts.astype(float), *rest)
    chex.assert_trees_all_close(fn(counts, *rest), floats, rtol=1e-5, atol=1e-5)


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


DERIVED = {"PatternInformation"}  # first and second derivatives of total_deviance, which has a case


def test_every_pattern_function_has_a_case():
    assert pattern_functions() - set(CASES) == DERIVED
