"""Gradients of the converged fit, and of the whole way from counts to strain, against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax4dstem.coordinates import strain_of
from jax4dstem.lattice import FitLattice, starting_model
from jax4dstem.lattice.render import render
from jax4dstem.patterns.align import AlignDirectBeam

LATTICE = np.array([[0.3, 15.1], [-13.2, 7.4]])
INDICES = np.array([[0, 0], [1, 0], [0, 1], [-1, 1], [-1, 0], [0, -1], [1, -1]], np.int32)
CENTER = np.array([27.3, 28.2])
DISTORTION = np.array([[1.01, 0.004], [-0.006, 0.993]])
PATCH = 9  # no pixel of a patch lies near the edge of its cell, so none changes hands
FIELDS = ("radius", "edge_width", "to_detector", "background", "intensity", "spread", "lattice")


def scene(rng):
    """A model, and counts drawn from it."""
    model = starting_model(LATTICE, INDICES, 2.6)._replace(
        edge_width=jnp.asarray(0.4),
        background=2e-3 * jnp.exp(-jnp.arange(40.0) / 9),
        intensity=jnp.asarray([0.7] + 6 * [0.03]),
        spread=jnp.full(7, 0.02),
    )
    share = render(
        (56, 56), jnp.asarray(CENTER), jnp.asarray(DISTORTION), model.intensity, model, 13
    )
    return model, jnp.asarray(rng.poisson(2e4 * np.asarray(share)) + 0.0)


def converged(pattern, center, model):
    """The fit, started again at its own result until it stays there."""
    fit = FitLattice(PATCH, fine=8)(pattern, center, jnp.eye(2), model)
    again = FitLattice(PATCH, coarse=0, fine=12)
    for _ in range(2):
        fit = again(pattern, fit.center, fit.distortion, model)
    return fit


@pytest.mark.whole
def test_the_implicit_gradient_is_that_of_the_converged_fit(rng):
    with jax.enable_x64(True):
        model, pattern = scene(rng)
        weights = jnp.asarray(rng.normal(size=(2, 2)))

        def answer(pattern, center, model):
            fit = converged(pattern, center, model)
            return jnp.sum(weights * fit.distortion) + 0.3 * fit.center[0] + fit.intensities[1]

        value = jax.jit(answer)
        gradient = jax.jit(jax.grad(answer, argnums=(0, 1, 2), allow_int=True))
        by_pattern, by_start, by_model = gradient(pattern, jnp.asarray(CENTER), model)
        np.testing.assert_array_equal(by_start, 0)  # where a converged fit started does not matter

        def check(exact, direction, moved):
            step = 1e-5
            ahead, behind = (value(*moved(sign * step * direction)) for sign in (1, -1))
            wanted = float(jnp.sum(exact * direction))
            assert float((ahead - behind) / (2 * step)) == pytest.approx(wanted, rel=1e-4, abs=1e-9)

        direction = jnp.asarray(rng.normal(size=pattern.shape))
        check(by_pattern, direction, lambda move: (pattern + move, CENTER, model))
        for name in FIELDS:
            at = getattr(model, name)
            direction = at * jnp.asarray(rng.normal(size=jnp.shape(at)))
            check(
                getattr(by_model, name),
                direction,
                lambda move, name=name, at=at: (
                    pattern,
                    CENTER,
                    model._replace(**{name: at + move}),
                ),
            )


@pytest.mark.whole
def test_the_way_back_of_an_implicit_fit_needs_little_memory(rng):
    model, pattern = scene(rng)
    patterns = jnp.tile(pattern.astype(jnp.float32), (32, 1, 1))

    def total(model):
        def one(pattern):
            fit = FitLattice(PATCH)(pattern, jnp.asarray(CENTER, jnp.float32), jnp.eye(2), model)
            return jnp.sum(fit.distortion)

        return jnp.sum(jax.vmap(one)(patterns))

    def memory(fn):
        return jax.jit(fn).lower(model).compile().memory_analysis().temp_size_in_bytes

    assert memory(jax.grad(total, allow_int=True)) <= 2 * memory(total)


@pytest.mark.whole
def test_from_counts_to_strain(rng):
    """Center of the beam, lattice, polar decomposition: one differentiable function of the counts."""
    with jax.enable_x64(True):
        model, pattern = scene(rng)

        def strain(pattern):
            center = AlignDirectBeam()(pattern, jnp.asarray([27.0, 28.0]), 5.0)
            fit = converged(pattern, center, model)
            return jnp.stack(strain_of(jnp.linalg.inv(fit.distortion)))

        weights = jnp.asarray(rng.normal(size=4))
        value = jax.jit(lambda counts: weights @ strain(counts))
        direction = jnp.asarray(rng.normal(size=pattern.shape))
        exact = jnp.sum(jax.jit(jax.grad(value))(pattern) * direction)
        step = 1e-4
        difference = (value(pattern + step * direction) - value(pattern - step * direction)) / (
            2 * step
        )
        assert float(exact) == pytest.approx(float(difference), rel=1e-4)
        found = jax.jit(strain)(pattern)
        np.testing.assert_allclose(
            found, jnp.stack(strain_of(jnp.linalg.inv(jnp.asarray(DISTORTION)))), atol=1e-2
        )
