"""Pooling strain over neighboring positions of one grain, and how far that went."""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, stats

from jax4dstem.coordinates import wrap_angle
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, entry
from jax4dstem.strain.maps import COMPONENTS, OnStrain, StrainMap
from jax4dstem.typing import Array

REACHES = (1, 2, 4, 8)  # positions, radius of the neighborhoods
ONE_GRAIN = float(stats.chi2.ppf(0.99, 4))  # squared distance of two strains of one grain
SLACK = 0.1  # excess of the gaps between two reaches that is taken for chance
SAFETY = 4.0  # squared bias over the excess of squared gaps: 16/9 for curvature, and room for more
AVERSION = 1.5  # weight of squared bias against variance when a reach is chosen
LARGEST_RATIO = 16.0  # of a squared gap, so that single jumps decide nothing
MIXED = 6  # power of the share of agreeing neighbors that weights a position
CURVED = float(stats.chi2.ppf(0.99, 8))  # squared significance of a gradient


@dataclass(frozen=True)
class PooledStrain(OnStrain):
    """A pooled strain map.

    Attributes:
        strain: Pooled values and their error bars.
        n_pooled: Effective number of patterns behind every value: variance of one over that of the pool;
            ``(scan_y, scan_x)``.
        reach: Radius of the neighborhood in positions, the same shape; 0 where nothing was pooled.
    """

    strain: StrainMap
    n_pooled: np.ndarray = entry(SCAN, "patterns", "effective number pooled")
    reach: np.ndarray = entry(SCAN, "positions", "radius of the neighborhood")


class _Field(NamedTuple):
    """Strain in units of its typical error; ``values`` (y, x, 4), ``precision`` (y, x, 4, 4)."""

    values: Array
    precision: Array
    ok: Array
    period: Array


class _Local(NamedTuple):
    """A plane through the strain around every position: value, slopes along y and x, covariance."""

    value: Any
    slope: Any
    covariance: Any


def pool_strain(strain: StrainMap, reaches: tuple[int, ...] = REACHES) -> PooledStrain:
    r"""Average strain over neighbors that agree within their errors; edges stay sharp.

    Around every position a plane is fitted to the strains of its neighborhood, weighted by the Fisher
    information of each, of those neighbors k for which

    .. math:: (\epsilon_k - \hat\epsilon_i(k))^{\mathsf T} (C_k + \hat C_i)^{-1}
        (\epsilon_k - \hat\epsilon_i(k)) < 13.3 ,

    with the plane of the next smaller reach; across a grain boundary the difference is many times its
    error. The slope is dropped where it is not significant. The bias that curvature adds is estimated from
    how far the results of two reaches differ beyond their errors, over the region around; a larger reach is
    taken as long as variance plus squared bias fall, and the error bars contain both. Planes of twice the
    largest reach are fitted too, only for what they show of its bias, which no smaller reach would. Propagation from
    small to large scales follows Polzehl and Spokoiny (J. R. Stat. Soc. B 62, 335, 2000).

    Args:
        strain: Per-position strain with covariances.
        reaches: Radii of the neighborhoods in positions, growing.

    Returns:
        The pooled map. Positions without strain stay without.

    Raises:
        InputError: The radii do not grow.

    Example:
        >>> zero, cov = np.zeros((8, 8)), np.tile(1e-6 * np.eye(4), (8, 8, 1, 1))
        >>> noise = np.random.default_rng(0).normal(0, 1e-3, (4, 8, 8))
        >>> strain = StrainMap(*noise, cov, zero.astype(int), np.eye(2), "given")
        >>> pooled = pool_strain(strain, reaches=(1, 2))
        >>> bool(pooled.strain.e_xx.std() < strain.e_xx.std() / 2)
        True
    """
    if not reaches or any(wider <= radius for radius, wider in pairwise((0, *reaches))):
        raise InputError(f"reaches must be radii that grow, in whole positions; got {reaches}")
    ok = strain.ok
    if not ok.any():
        return PooledStrain(strain, np.full(ok.shape, np.nan), np.zeros(ok.shape, np.int16))
    scale = np.median([strain.std(name)[ok] for name in COMPONENTS], axis=1)
    values = np.where(ok[..., None], strain.values, 0) / scale
    covariance = strain.covariance / scale[:, None] / scale
    covariance = np.where(ok[..., None, None], covariance, np.eye(4))
    field = _Field(
        jnp.asarray(values, jnp.float32),
        jnp.asarray(np.linalg.inv(covariance), jnp.float32),
        jnp.asarray(ok),
        jnp.asarray(strain.period / scale[3], jnp.float32),
    )
    medoid, alone = _medoid(field, jnp.asarray(covariance, jnp.float32))
    local = _Local(*map(np.asarray, medoid))
    # What disagrees with its neighbors is probably mixed: it may not pull those it still agrees with.
    purity = (1 - alone) ** MIXED
    field = field._replace(precision=field.precision * purity[..., None, None])
    reach = np.zeros(ok.shape, np.int16)
    growing = ok.copy()
    bias = np.zeros((*ok.shape, 4))
    # The last is a witness, never taken: where bias is as small as the error, only a wider plane shows it.
    for previous, radius in pairwise((0, *reaches, 2 * reaches[-1])):
        wider = _fit_planes(field, local, radius)
        more = _squared_bias(local, wider, float(field.period), ok, radius) if previous else bias
        if previous:
            grows = (_risk(wider, more) < _risk(local, bias)) & (radius in reaches)
            # Where the wider reach is refused, its large bias tells the small one of this reach best.
            refused = growing & ~grows
            ours = np.maximum(bias, more * (previous / radius) ** 4)
            bias = np.where(refused[..., None], ours, bias)
            growing = growing & grows
        reach[growing] = radius
        bias = np.where(growing[..., None], more, bias)
        local = _Local(*(_where(growing, new, old) for new, old in zip(wider, local, strict=True)))
    pooled = local.value * scale
    pooled[..., 3] = wrap_angle(pooled[..., 3], strain.period)
    covariance = (local.covariance + bias[..., None] * np.eye(4)) * scale[:, None] * scale
    single = np.diagonal(strain.covariance, axis1=-2, axis2=-1)
    n_pooled = np.mean(single / np.diagonal(covariance, axis1=-2, axis2=-1), axis=-1)
    return PooledStrain(
        strain.with_values(pooled, covariance, ok), np.where(ok, n_pooled, np.nan), reach
    )


def _where(flag: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(flag.reshape(flag.shape + (1,) * (new.ndim - 2)), new, old)


def _offsets(radius: int) -> Array:
    """Steps (y, x) to all positions of a round neighborhood, nearest first."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    steps = np.stack([y.ravel(), x.ravel()], axis=1)
    length = (steps**2).sum(axis=1)
    order = np.argsort(length, kind="stable")
    return jnp.asarray(steps[order[length[order] <= radius * (radius + 1)]])


def _shifted(leaf: Array, step: Array) -> Array:
    """The neighbor at a step of every position; what enters from the other side is masked by `_inside`."""
    return jnp.roll(jnp.roll(leaf, -step[0], 0), -step[1], 1)


def _inside(shape: tuple[int, ...], step: Array) -> Array:
    y, x = jnp.arange(shape[0])[:, None] + step[0], jnp.arange(shape[1])[None, :] + step[1]
    return (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])


def _difference(a: Array, b: Array, period: Array) -> Array:
    """a − b with the rotation modulo its period."""
    gap = a - b
    return gap.at[..., 3].set(wrap_angle(gap[..., 3], period))


def _distance(gap: Array, precision: Array, covariance: Array) -> Array:
    r"""Squared distance of a strain of a given precision from an estimate of a given covariance.

    The sum of the two covariances is taken as (1 + ρ) times the first, with the mean ratio ρ: no matrix
    has to be inverted for each pair.
    """
    ratio = jnp.einsum("...ij,...ij->...", precision, covariance) / 4
    return jnp.einsum("...i,...ij,...j->...", gap, precision, gap) / (1 + ratio)


@jax.jit
def _medoid(field: _Field, covariance: Array) -> tuple[_Local, Array]:
    """Of a position and its eight neighbors the strain that agrees with most of them.

    A pattern on a boundary, a mixture of two grains, so starts from one of the two. Also returns the
    share of neighbors that do not agree with the position's own strain.
    """
    steps = _offsets(1)
    shape = field.ok.shape

    def support(candidate: Array) -> tuple[Array, Array, Array, Array]:
        value, own = _shifted(field.values, candidate), _shifted(covariance, candidate)

        def one(step: Array) -> Array:
            gap = _difference(_shifted(field.values, step), value, field.period)
            distance = _distance(gap, _shifted(field.precision, step), own)
            there = _shifted(field.ok, step) & _inside(shape, step)
            return jnp.where(there, jnp.minimum(distance, ONE_GRAIN), jnp.nan)

        distances = jax.lax.map(one, steps)
        total = jnp.sum(jnp.where(jnp.isnan(distances), ONE_GRAIN, distances), axis=0)
        # Inside a region without strain there is no neighbor at all; 0 / 0 would spread from there.
        known = jnp.maximum(jnp.sum(~jnp.isnan(distances), axis=0), 1)
        apart = jnp.sum(distances >= ONE_GRAIN, axis=0) / known
        there = _shifted(field.ok, candidate) & _inside(shape, candidate)
        return jnp.where(there, total, jnp.inf), value, own, apart

    totals, values, covariances, apart = jax.lax.map(support, steps)
    best = jnp.argmin(totals, axis=0)

    def pick(leaf: Array) -> Array:
        index = best.reshape(1, *best.shape, *(1,) * (leaf.ndim - 3))
        return jnp.take_along_axis(leaf, index, axis=0)[0]

    # The first step is to the position itself.
    return _Local(pick(values), jnp.zeros((*shape, 2, 4)), pick(covariances)), apart[0]


@functools.partial(jax.jit, static_argnums=3)
def _normal_equations(
    field: _Field, start: _Local, steps: Array, radius: float
) -> tuple[Array, Array]:
    """Of planes around every position, through the neighbors that agree with the start's plane."""
    shape = field.ok.shape

    def add(sums: Any, step: Array) -> tuple[Any, None]:
        move = step.astype(float)
        tilt = jnp.einsum("i,yxij->yxj", move, start.slope)
        gap = _difference(_shifted(field.values, step), start.value + tilt, field.period)
        precision = _shifted(field.precision, step)
        distance = _distance(gap, precision, start.covariance)
        used = _shifted(field.ok, step) & _inside(shape, step) & (distance < ONE_GRAIN)
        precision = precision * used[..., None, None]
        basis = jnp.stack([jnp.ones(()), *(move / radius)])
        # The gap to the start's value, not to its plane: slopes are fitted anew.
        pull = jnp.einsum("yxij,yxj->yxi", precision, gap + tilt)
        matrix = jnp.einsum("a,b,yxij->yxaibj", basis, basis, precision)
        return (sums[0] + matrix, sums[1] + basis[:, None] * pull[:, :, None, :]), None

    zero = jnp.zeros((*shape, 3, 4, 3, 4)), jnp.zeros((*shape, 3, 4))
    sums, _ = jax.lax.scan(add, zero, steps)
    return sums


def _fit_planes(field: _Field, start: _Local, radius: int) -> _Local:
    """A plane around every position, or a level where its slope is not significant."""
    sums = _normal_equations(field, start, _offsets(radius), float(radius))
    matrix, pull = (np.asarray(leaf, np.float64) for leaf in sums)
    shape = pull.shape[:2]
    matrix, pull = matrix.reshape(*shape, 12, 12), pull.reshape(*shape, 12)
    level = np.linalg.inv(matrix[..., :4, :4] + 1e-6 * np.eye(4))
    # Slopes along a line of neighbors are not determined: a weak prior keeps them at zero.
    plane = np.linalg.inv(matrix + np.diag(np.repeat([1e-6, 1e-3, 1e-3], 4)))
    solution = (plane @ pull[..., None])[..., 0]
    slope = solution[..., 4:]
    weight = np.linalg.inv(plane[..., 4:, 4:])
    curved = np.einsum("yxi,yxij,yxj->yx", slope, weight, slope) > CURVED
    flat = (level @ pull[..., :4, None])[..., 0]
    value = np.where(curved[..., None], solution[..., :4], flat)
    covariance = np.where(curved[..., None, None], plane[..., :4, :4], level)
    slope = np.where(curved[..., None], slope, 0).reshape(*shape, 2, 4) / radius
    return _Local(np.asarray(start.value) + value, slope, covariance)


def _squared_bias(
    narrow: _Local, wide: _Local, period: float, ok: np.ndarray, radius: int
) -> np.ndarray:
    """What curvature of the field adds to the wide estimate, by component, from the region around.

    The wide estimate contains the narrow one's patterns, so without bias their gap has the difference of
    the variances; bias grows with the square of the radius, so a gap of two radii 1:2 shows 3/4 of it.
    """
    gap = wide.value - narrow.value
    gap[..., 3] = wrap_angle(gap[..., 3], period)
    variances = np.diagonal(narrow.covariance, axis1=-2, axis2=-1) - np.diagonal(
        wide.covariance, axis1=-2, axis2=-1
    )
    variances = np.maximum(variances, 1e-9)
    ratio = np.where(ok[..., None], np.minimum(gap**2 / variances, LARGEST_RATIO), 0)
    size = (4 * radius + 1, 4 * radius + 1, 1)
    seen = ndimage.uniform_filter(ok[..., None].astype(float), size, mode="constant")
    mean = ndimage.uniform_filter(ratio, size, mode="constant") / np.maximum(seen, 1e-9)
    return np.maximum(mean - 1 - SLACK, 0) * SAFETY * variances


def _risk(local: _Local, bias: np.ndarray) -> np.ndarray:
    """Variance plus squared bias, the latter several times: error bars cover noise better than bias."""
    return np.trace(local.covariance, axis1=-2, axis2=-1) + AVERSION * bias.sum(axis=-1)
