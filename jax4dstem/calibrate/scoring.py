"""Fisher scoring of rings: the most likely model of summed counts, and what is known of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jax4dstem.calibrate.powder import Counts
from jax4dstem.lattice.rings import RingModel, RingUnknowns
from jax4dstem.noise import Noise
from jax4dstem.typing import Array

LARGEST_ROUNDS = 60
SETTLED = (
    0.1  # standard deviations, as counts scatter around the fit, that the last step is at most
)
ROUNDING = 1e-4  # of a deviance, summed in float32
TINY = 1e-9  # of an information's diagonal, added so that it can be inverted
FAINTEST = 1e-12  # counts: expectations are positive

# Standard deviations of what is expected; without one nothing is.
LARGE = np.inf
PRIOR = RingUnknowns(
    np.array(LARGE), np.array([LARGE, LARGE]), np.array([LARGE, LARGE]),
    # e-folds around a pixel, a hundredth of the ring's radius, and the direct beam's: a reflection is as large but for blooming.
    np.array([2.0, 2.0, 1.0]),
    np.array([LARGE, 3.0]),  # Å², about half of the Debye-Waller factor of soft metals
    np.array(1.0), np.array(LARGE),
)  # fmt: skip
EXPECTED_WIDTHS = np.log([1.0, 0.01, 1.0])


class Slopes(NamedTuple):
    """What sums of counts say of the unknowns."""

    jacobian: np.ndarray  # derivatives of their expectations, (n, unknowns)
    residual: np.ndarray  # (n,)
    variance: np.ndarray  # (n,)
    deviance: float


class RingFit(NamedTuple):
    """The most likely rings."""

    at: RingUnknowns
    deviance: float
    penalty: float  # of unknowns far from where they are expected
    information: np.ndarray  # by counting, without the prior, over all unknowns
    precision: np.ndarray  # of the prior, its diagonal
    moves: np.ndarray  # which unknowns were free

    def misfit(self, dispersion: float) -> float:
        r"""Twice the negative logarithm of the evidence, by Laplace's approximation, but for a constant.

        .. math:: D / \varphi + \sum_i (\theta_i - \theta_{i0})^2 / \tau_i^2 + \ln\det(I / \varphi + T)
        """
        total = (self.information / dispersion + np.diag(self.precision))[self.moves][:, self.moves]
        scaled, scale = _scaled(total)
        determinant = float(np.linalg.slogdet(scaled)[1] + 2 * np.log(scale).sum())
        return self.deviance / dispersion + self.penalty + determinant


def fit_rings(
    model: RingModel, counts: Counts, noise: Noise, start: RingUnknowns, free: RingUnknowns
) -> RingFit:
    """Fisher scoring with Levenberg and Marquardt's damping; unknowns that are not free stay.

    Args:
        model: Of the counts per pattern.
        counts: Of all patterns.
        noise: Of the counts.
        start: Where it starts.
        free: Which unknowns move: booleans, one for each or for all of a kind.
    """
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), start))
    precision, expected = _prior(start)
    moves = _flat(free, start).astype(bool)
    here = np.asarray(flat, np.float64)
    damping = 1e-3

    def look(at: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        parts = slopes(model, unravel(jnp.asarray(at, flat.dtype)), counts, noise)
        slope, information = normal_equations(parts)
        penalty = float(precision @ (at - expected) ** 2)
        return parts.deviance, slope - precision * (at - expected), information, penalty

    deviance, slope, information, penalty = look(here)
    for _ in range(LARGEST_ROUNDS):
        total = information + np.diag(precision)
        step = np.zeros(len(here))
        step[moves] = solve(total[np.ix_(moves, moves)], slope[moves], damping)
        step = np.clip(step, -0.5, 0.5)
        ahead = look(here + step)
        gain = deviance + penalty - ahead[0] - ahead[3]
        if not np.isfinite(gain) or gain < -ROUNDING * deviance:
            damping = min(10 * damping, 1e6)
            if damping >= 1e6:
                break
            continue
        length = slope @ step
        here, (deviance, slope, information, penalty) = here + step, ahead
        damping = max(damping / 10, 1e-9)
        if length < SETTLED**2 * max(deviance / len(counts.counts), 1.0):
            break
    at = jax.tree.map(np.asarray, unravel(jnp.asarray(here, flat.dtype)))
    return RingFit(at, deviance, penalty, information, precision, moves)


def solve(matrix: np.ndarray, vector: np.ndarray, damping: float = 0.0) -> np.ndarray:
    """Solution of a system in scaled unknowns; those of which nothing is known stay near zero."""
    scaled, scale = _scaled(matrix, damping)
    return (np.linalg.solve(scaled, (vector.T / scale).T).T / scale).T


def _scaled(matrix: np.ndarray, damping: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A matrix with a diagonal of 1 and a little more, and the roots of its own diagonal."""
    scale = np.sqrt(np.maximum(np.diagonal(matrix), 1e-12))
    return matrix / np.outer(scale, scale) + (damping + TINY) * np.eye(len(matrix)), scale


def slopes(model: RingModel, at: RingUnknowns, counts: Counts, noise: Noise) -> Slopes:
    """What the sums say of the unknowns."""
    found = _slopes(model, at, counts, noise, model.grid())
    jacobian, residual, variance = map(np.asarray, found[:3])
    return Slopes(jacobian, residual, variance, float(found[3]))


def normal_equations(parts: Slopes, own: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Half of the deviance's falling slope, and Fisher's information, of all sums or of some."""
    jacobian, residual, variance = parts.jacobian[own], parts.residual[own], parts.variance[own]
    weighted = jacobian / variance[:, None]
    return (weighted.T @ residual).astype(np.float64), (weighted.T @ jacobian).astype(np.float64)


def _flat(tree: RingUnknowns, like: RingUnknowns) -> np.ndarray:
    leaves = [np.broadcast_to(a, np.shape(b)).ravel() for a, b in zip(tree, like, strict=True)]
    return np.concatenate(leaves)


def _prior(like: RingUnknowns) -> tuple[np.ndarray, np.ndarray]:
    """Precision and expectation of every unknown."""
    expected = RingUnknowns(*[np.zeros(np.shape(leaf)) for leaf in like])
    expected = expected._replace(log_widths=EXPECTED_WIDTHS)
    return _flat(PRIOR, like) ** -2.0, _flat(expected, like)


@jax.jit
def _slopes(
    model: RingModel, at: RingUnknowns, counts: Counts, noise: Noise, grid: Any
) -> tuple[Array, Array, Array, Array]:
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), at))

    def expected(unknowns: Array) -> Array:
        one = model.expected(unravel(unknowns), counts.y, counts.x, grid)
        return counts.pixels * jnp.maximum(one, FAINTEST)

    mean = jnp.maximum(expected(flat), FAINTEST)
    deviance = noise.deviance(counts.counts, mean)
    summed = jnp.sum(jnp.where(counts.pixels > 0, deviance, 0.0))
    return jax.jacfwd(expected)(flat), counts.counts - mean, noise.variance(mean), summed
