"""Pooling strain over neighboring positions of one grain, and how far that went."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import ndimage, stats

from jax4dstem.coordinates import wrap_angle
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, entry
from jax4dstem.strain.maps import COMPONENTS, OnStrain, StrainMap
from jax4dstem.strain.neighborhood import (
    LEVEL,
    PLANE,
    Estimate,
    Field,
    Limits,
    fit_neighbors,
    gap_between,
    single_estimate,
    squared_distance,
    steps_within,
    where,
)
from jax4dstem.strain.sides import mix_sides

REACHES = (1, 2, 4, 8)  # positions, radius of the neighborhoods
# Squared distances of the four components, as quantiles of chance.
ONE_GRAIN = float(stats.chi2.ppf(0.99, 4))  # of two estimates of one grain
ALONE = float(stats.chi2.ppf(0.999, 4))  # of a measurement from its neighborhood
NEAREST = float(stats.chi2.ppf(0.8, 4))  # of two single measurements, the first to be compared
STEEPER = 1.1  # times more neighbors that agree with a plane than with a level: a gradient
MOST = 0.5  # of the neighbors follow a gradient; on the slope of a small island fewer do
SLACK = (
    0.2  # excess of a regional mean that is taken for chance: about half of its standard deviation
)
SAFETY = 4.0  # squared bias over the excess of squared gaps: 16/9 for curvature, and room for more
AVERSION = 1.5  # weight of squared bias against variance when a reach is chosen
LARGEST_RATIO = 16.0  # of a squared gap, so that single jumps decide nothing
STRANGERS = 0.2  # share of positions that are alone, from which on they are a bias of the others


@dataclass(frozen=True)
class PooledStrain(OnStrain):
    """A pooled strain map.

    Attributes:
        strain: Pooled values and their error bars.
        n_pooled: Effective number of patterns behind every value: variance of one over that of the pool;
            ``(scan_y, scan_x)``.
        reach: Radius of the neighborhood in positions, the same shape; 0 where none was taken: the position's own strain, or that
            of its surroundings where it is an outlier of chance.
    """

    strain: StrainMap
    n_pooled: np.ndarray = entry(SCAN, "patterns", "effective number pooled")
    reach: np.ndarray = entry(SCAN, "positions", "radius of the neighborhood")


def pool_strain(strain: StrainMap, reaches: tuple[int, ...] = REACHES) -> PooledStrain:
    r"""Average strain over neighbors that agree within their errors; edges and single positions stay.

    Around every position a level and a plane are fitted to the strains of growing neighborhoods, weighted by the
    precision of each, of those neighbors that agree with what the next smaller neighborhood gave for either; the plane counts where it explains
    more of them. The bias that curvature adds is estimated from how far the results of two reaches differ beyond their errors, over the region around.
    A larger reach is taken as long as variance plus squared bias fall, and the error bars contain both; reach 0, the
    position's own strain and error bar, stands first. A strain that its own measurement contradicts (at 99.9 %) is not
    taken, nor one with a larger error bar. Beside edges that are not clear, the answer is the mean over the sides that a position may belong to.

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

    Reference: propagation from small to large scales follows Polzehl and Spokoiny, J. R. Stat. Soc. B 62, 335 (2000).
    """
    if not reaches or any(wider <= radius for radius, wider in pairwise((0, *reaches))):
        raise InputError(f"reaches must be radii that grow, in whole positions; got {reaches}")
    ok = strain.ok
    if not ok.any():
        return PooledStrain(strain, np.full(ok.shape, np.nan), np.zeros(ok.shape, np.int16))
    scale = np.median([strain.std(name)[ok] for name in COMPONENTS], axis=1)
    field = _field_of(strain, scale)
    grown = _grow(field, reaches)
    bias = grown.bias[..., None] * np.eye(4)
    values, covariance = mix_sides(
        field, grown.local, grown.local.covariance + bias, grown.reach, ONE_GRAIN
    )
    single = single_estimate(field)
    larger = _total(covariance) > _total(single.covariance)
    reach = np.where(larger, 0, grown.reach)
    own = larger[..., None]
    values = np.where(own, single.value, values) * scale
    values[..., 3] = wrap_angle(values[..., 3], strain.period)
    covariance = np.where(own[..., None], single.covariance, covariance)
    ratio = np.diagonal(single.covariance, axis1=-2, axis2=-1) / np.diagonal(
        covariance, axis1=-2, axis2=-1
    )
    pooled = strain.with_values(values, covariance * scale[:, None] * scale, ok)
    n_pooled = np.maximum(ratio.mean(axis=-1), 1)
    return PooledStrain(pooled, np.where(ok, n_pooled, np.nan), reach)


def _field_of(strain: StrainMap, scale: np.ndarray) -> Field:
    ok = strain.ok
    covariance = np.where(
        ok[..., None, None], strain.covariance / scale[:, None] / scale, np.eye(4)
    )
    variance = _total(covariance) / 4
    return Field(
        jnp.asarray(np.where(ok[..., None], strain.values / scale, 0), jnp.float32),
        jnp.asarray(variance, jnp.float32),
        jnp.asarray(covariance / variance[..., None, None], jnp.float32),
        jnp.asarray(ok),
        jnp.asarray(strain.period / scale[3], jnp.float32),
    )


def _total(covariance: np.ndarray) -> np.ndarray:
    return np.trace(covariance, axis1=-2, axis2=-1)


class _Grown(NamedTuple):
    local: Estimate
    bias: np.ndarray  # squared, by component, (y, x, 4)
    reach: np.ndarray


class _Offer(NamedTuple):
    """What a reach offers."""

    level: Estimate
    plane: Estimate
    tilted: np.ndarray  # the plane explains the neighborhood
    undecided: np.ndarray  # neither does


def _grow(field: Field, reaches: tuple[int, ...]) -> _Grown:
    """Take larger reaches as long as they pay."""
    ok, period = np.asarray(field.ok), float(field.period)
    single = single_estimate(field)
    steps = steps_within(1)
    nearest, _ = fit_neighbors(field, single, single, steps, Limits(NEAREST, ALONE), LEVEL)
    plane, _ = fit_neighbors(field, single, single, steps, Limits(np.inf, np.inf), PLANE)
    level = around = nearest
    reach, bias = np.zeros(ok.shape, np.int16), np.zeros((*ok.shape, 4))
    growing, local, before = ok.copy(), single, single
    # The last is a witness, never taken: where bias is as small as the error, only a wider one shows it.
    for radius in (*reaches, 2 * reaches[-1]):
        steps = steps_within(radius) if radius in reaches else _thinned(radius)
        offer = _offer(field, (level, plane, nearest), around, steps)
        level, plane = offer.level, offer.plane
        slanted = where(offer.tilted, plane, level)
        # Three positions in a row are no gradient yet.
        wider, undecided = (
            (level, offer.undecided | offer.tilted) if radius == 1 else (slanted, offer.undecided)
        )
        alone = _alone(single, wider, period)
        # Bias shows against what is taken, and finer against the next smaller reach.
        more = _squared_bias((local, wider), period, ok, alone, radius)
        if radius > 1:
            more = np.maximum(more, _squared_bias((before, wider), period, ok, alone, radius))
        taken = growing & ~alone & ~undecided & (radius in reaches)
        taken &= _risk(wider, more) < _risk(local, bias)
        # Where the wider reach is refused, its large bias tells the small one of the taken reach best.
        ours = np.maximum(bias, more * (reach / radius)[..., None] ** 4)
        bias = np.where((ok & ~taken & ~alone)[..., None], ours, bias)
        bias = np.where(taken[..., None], more, bias)
        reach[taken] = radius
        if radius > 1:
            growing &= taken | undecided
        local = around = where(taken, wider, local)
        before = slanted
    return _Grown(local, bias, reach)


def _thinned(radius: int) -> np.ndarray:
    """All steps within half of the radius, every fourth beyond: enough to witness."""
    steps = steps_within(radius)
    inner = (steps**2).sum(axis=1) <= (radius // 2) * (radius // 2 + 1)
    return steps[inner | (steps % 2 == 0).all(axis=1)]


def _offer(
    field: Field, known: tuple[Estimate, Estimate, Estimate], around: Estimate, steps: np.ndarray
) -> _Offer:
    """Level and plane through the neighbors, and which of them explains more."""
    level, plane, nearest = known
    limits = Limits(ONE_GRAIN, ALONE)
    level, flat = fit_neighbors(field, level, around, steps, limits, LEVEL)
    plane, tilted = fit_neighbors(field, plane, around, steps, limits, PLANE)
    ok = np.asarray(field.ok)
    size = 2 * int(np.abs(steps).max()) + 1
    room = len(steps) * ndimage.uniform_filter(ok.astype(float), size, mode="constant")
    gap = gap_between(plane.value, nearest.value, float(field.period))
    near = squared_distance(gap, nearest.covariance + plane.covariance) < ONE_GRAIN
    steep = tilted > STEEPER * flat
    tilts = steep & (tilted > MOST * room) & near
    return _Offer(level, plane, tilts, steep & ~tilts)


def _alone(single: Estimate, wider: Estimate, period: float) -> np.ndarray:
    """Where the position's own measurement contradicts."""
    # Of the gap: the wider estimate contains the single one.
    covariance = single.covariance - wider.covariance
    pooled = np.diagonal(covariance, axis1=-2, axis2=-1).min(axis=-1) > 1e-6
    covariance = np.where(pooled[..., None, None], covariance, np.eye(4))
    gap = gap_between(single.value, wider.value, period)
    return pooled & (squared_distance(gap, covariance) > ALONE)


def _squared_bias(
    pair: tuple[Estimate, Estimate], period: float, ok: np.ndarray, alone: np.ndarray, radius: int
) -> np.ndarray:
    """What curvature of the field adds to the wide estimate, by component, from the region around.

    The wide estimate contains the narrow one's patterns, so without bias their gap has the difference of
    the variances; bias grows with the square of the radius, so a gap of two radii 1:2 shows 3/4 of it.
    """
    narrow, wide = pair
    before, after = (np.diagonal(each.covariance, axis1=-2, axis2=-1) for each in pair)
    variances = np.maximum(before - after, 1e-9)
    counts = (ok & ~alone)[..., None] & (after < 0.9 * before)
    gap = gap_between(wide.value, narrow.value, period)
    ratio = np.where(counts, np.minimum(gap**2 / variances, LARGEST_RATIO), 0)
    size = 2 * max(2 * radius, 4) + 1

    def around(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values.astype(float), (size, size, 1), mode="constant")

    seen = around(counts)
    strangers = around((ok & alone)[..., None]) / np.maximum(around(ok[..., None]), 1e-9)
    mean = around(ratio) / np.maximum(seen, 1e-9)
    mean += LARGEST_RATIO * np.maximum(strangers - STRANGERS, 0)
    return np.maximum(mean - 1 - SLACK, 0) * SAFETY * variances


def _risk(local: Estimate, bias: np.ndarray) -> np.ndarray:
    """Variance plus squared bias, the latter several times: error bars cover noise better than bias."""
    return _total(local.covariance) + AVERSION * bias.sum(axis=-1)
