"""Levels and planes through the strain of neighboring positions that agree."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import wrap_angle
from jax4dstem.typing import Array, Scalar

LEVEL, PLANE = 1, 3  # unknowns of each component
WEAK = (
    1e-9,
    1e-3,
    1e-3,
)  # prior: slopes across a line of neighbors are not determined, and stay zero


class Field(NamedTuple):
    """Strain of single positions in units of its typical error.

    The covariance of a position is its ``variance`` times its ``shape``: neighbors are weighted by the variance alone.
    """

    values: Any  # (y, x, 4)
    variance: Any  # (y, x)
    shape: Any  # (y, x, 4, 4), of trace 4
    ok: Any  # (y, x)
    period: Any  # of the rotation


class Estimate(NamedTuple):
    """A plane through the strain around every position."""

    value: Any  # (y, x, 4)
    slope: Any  # per position along y and x, (y, x, 2, 4)
    spread: Any  # inverse of the normal matrix, (y, x, 3, 3)
    shape: Any  # (y, x, 4, 4)

    @property
    def covariance(self) -> np.ndarray:
        """Of the value, ``(y, x, 4, 4)``."""
        return self.spread[..., :1, :1] * self.shape


class Limits(NamedTuple):
    """Squared distances up to which a neighbor agrees: by what is known of its surroundings, and by itself."""

    pooled: Scalar
    single: Scalar


def single_estimate(field: Field) -> Estimate:
    """Every position's own strain."""
    variance = np.asarray(field.variance, np.float64)
    spread = np.zeros((*variance.shape, 3, 3))
    spread[..., 0, 0] = variance
    values, shape = (np.asarray(a, np.float64) for a in (field.values, field.shape))
    return Estimate(values, np.zeros((*variance.shape, 2, 4)), spread, shape)


def where(flag: np.ndarray, new: Estimate, old: Estimate) -> Estimate:
    """Estimates by position."""

    def choose(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where(flag.reshape(flag.shape + (1,) * (one.ndim - 2)), one, other)

    return Estimate(*map(choose, new, old))


def gap_between(one: Any, other: Any, period: float) -> np.ndarray:
    """one − other, ``(..., 4)``, with the rotation modulo its period."""
    gap = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    gap[..., 3] = wrap_angle(gap[..., 3], period)
    return gap


def squared_distance(gap: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Of gaps ``(..., 4)`` in units of their covariances ``(..., 4, 4)``."""
    return np.einsum("...i,...i->...", gap, np.linalg.solve(covariance, gap[..., None])[..., 0])


def steps_within(radius: int) -> np.ndarray:
    """Steps (y, x) to all positions of a round neighborhood, ``(steps, 2)``."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    steps = np.stack([y.ravel(), x.ravel()], axis=1)
    return steps[(steps**2).sum(axis=1) <= radius * (radius + 1)]


def fit_neighbors(
    field: Field,
    start: Estimate,
    around: Estimate,
    steps: np.ndarray,
    limits: Limits,
    unknowns: int,
) -> tuple[Estimate, np.ndarray]:
    r"""A level or plane through those neighbors of every position that agree with what is known of it.

    Neighbor k at the step s from position i agrees if

    .. math:: (\hat\epsilon_k - \hat\epsilon_i(s))^{\mathsf T} (\hat C_k + \hat C_i(s))^{-1}
        (\hat\epsilon_k - \hat\epsilon_i(s)) < c ,

    with the estimates of both, and if its own measurement is no outlier from :math:`\hat\epsilon_i(s)`. The shape of both
    covariances is taken as that of i.

    Args:
        field: Measurements.
        start: The estimate of every position that its neighbors are compared with.
        around: The estimates of the neighbors that are compared.
        steps: To the neighbors, ``(steps, 2)``.
        limits: Squared distances.
        unknowns: ``LEVEL`` or ``PLANE``.

    Returns:
        The estimates, and how many neighbors agree, ``(y, x)``.
    """
    radius = float(np.abs(steps).max())
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (start, around))
    sums = _normal_equations(field, *narrow, jnp.asarray(steps), radius, limits, unknowns)
    matrix, pull, shape, number = (np.asarray(leaf, np.float64) for leaf in sums)
    weight = matrix[..., :1, :1]
    shape = np.where(weight > 0, shape / np.where(weight > 0, weight, 1), np.eye(4))
    inverse = np.linalg.inv(matrix + np.diag(WEAK[:unknowns]))
    solution = inverse @ pull
    scale = np.array([1, 1 / radius, 1 / radius])[:unknowns]
    spread, slope = np.zeros((*number.shape, 3, 3)), np.zeros((*number.shape, 2, 4))
    spread[..., :unknowns, :unknowns] = inverse * scale[:, None] * scale
    slope[..., : unknowns - 1, :] = solution[..., 1:, :] / radius
    return Estimate(start.value + solution[..., 0, :], slope, spread, shape), number


def _shifted(leaf: Array, step: Array) -> Array:
    """The neighbor at a step of every position; what enters from the other side is masked by `_inside`."""
    return jnp.roll(leaf, -step, (0, 1))


def _inside(shape: tuple[int, ...], step: Array) -> Array:
    y, x = jnp.arange(shape[0])[:, None] + step[0], jnp.arange(shape[1])[None, :] + step[1]
    return (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])


@functools.partial(jax.jit, static_argnames="unknowns")
def _normal_equations(
    field: Field,
    start: Estimate,
    around: Estimate,
    steps: Array,
    radius: Scalar,
    limits: Limits,
    unknowns: int,
) -> tuple[Array, Array, Array, Array]:
    """Matrix, pull, sum of shapes and number of the neighbors that agree."""
    precision = jnp.linalg.inv(start.shape)

    def distance(gap: Array, variance: Array) -> Array:
        gap = gap.at[..., 3].set(wrap_angle(gap[..., 3], field.period))
        gaps = jnp.einsum("yxi,yxij,yxj->yx", gap, precision, gap)
        return gaps / variance

    def add(sums: Any, step: Array) -> tuple[Any, None]:
        move = step.astype(float)
        along = jnp.concatenate([jnp.ones(1), move])
        tilt = jnp.einsum("i,yxij->yxj", move, start.slope)
        here = start.value + tilt
        ahead = jnp.einsum("i,yxij,j->yx", along, start.spread, along)
        single = _shifted(field.values, step) - here
        variance = _shifted(field.variance, step)
        pooled = _shifted(around.value, step) - here
        known = _shifted(around.spread[..., 0, 0], step)
        agrees = distance(pooled, ahead + known) < limits.pooled
        agrees &= distance(single, ahead + variance) < limits.single
        there = _shifted(field.ok, step) & _inside(field.ok.shape, step)
        used = (agrees & there) | (field.ok & jnp.all(step == 0))
        weight = jnp.where(used, 1 / variance, 0.0)[..., None, None]
        basis = jnp.concatenate([jnp.ones(1), move / radius])[:unknowns]
        # Measured from the start's value, not from its plane: slopes are fitted anew.
        gap = single.at[..., 3].set(wrap_angle(single[..., 3], field.period)) + tilt
        new = (
            weight * (basis[:, None] * basis),
            weight * basis[:, None] * gap[..., None, :],
            weight * _shifted(field.shape, step),
            used.astype(float),
        )
        return jax.tree.map(jnp.add, sums, new), None

    yx = field.ok.shape
    sizes = (*yx, unknowns, unknowns), (*yx, unknowns, 4), (*yx, 4, 4), yx
    sums, _ = jax.lax.scan(add, tuple(jnp.zeros(size) for size in sizes), steps)
    return sums
