"""Positions near an edge: which side do they belong to?"""

import numpy as np

from jax4dstem.strain.neighborhood import Estimate, Field, gap_between, squared_distance

# Steps to surroundings that the blur of an edge does not reach: steps of two errors of one pattern show within some three positions.
AROUND = ((7, 0), (-7, 0), (0, 7), (0, -7), (5, 5), (5, -5), (-5, 5), (-5, -5))
WIDE = 2  # positions, reach from which on an estimate speaks for a side of an edge,
WIDER = 4  # and from which on it speaks for a position that was not pooled
RARE = 1e-3  # of the positions are features of their own
FARTHEST = 100.0  # squared distance, from which on a side is excluded


def mix_sides(
    field: Field, local: Estimate, covariance: np.ndarray, reach: np.ndarray, same: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean and covariance over the sides that a position may belong to.

    Sides are its own estimate and those of its surroundings in eight directions, where they differ. With the number
    :math:`n_k` of directions that agree with side k, and the position's own measurement ε of covariance C,

    .. math:: p_k \propto n_k \exp\left[-\tfrac12 (\epsilon - \hat\epsilon_k)^{\mathsf T} C^{-1} (\epsilon - \hat\epsilon_k)\right],
        \quad \bar\epsilon = \sum_k p_k \hat\epsilon_k , \quad
        \bar C = \sum_k p_k \left[\hat C_k + (\hat\epsilon_k - \bar\epsilon)(\hat\epsilon_k - \bar\epsilon)^{\mathsf T}\right] .

    A position that was not pooled is its own side, one of few: chance makes more outliers than there are features.

    Args:
        field: Measurements.
        local: The estimates, ``(y, x)``.
        covariance: Of their values, bias included, ``(y, x, 4, 4)``.
        reach: Of every estimate in positions, ``(y, x)``.
        same: Squared distance up to which two estimates are of one side.

    Returns:
        Values ``(y, x, 4)`` and covariances ``(y, x, 4, 4)``.
    """
    ok, period = np.asarray(field.ok), float(field.period)
    single = np.asarray(field.variance)[..., None, None] * np.asarray(field.shape, np.float64)
    rows, cols = np.indices(ok.shape)

    def misfit(value: np.ndarray) -> np.ndarray:
        return squared_distance(gap_between(field.values, value, period), single)

    # An estimate fits the measurement that is in it by chance.
    own = misfit(local.value) + 4 * local.spread[..., 0, 0] / np.asarray(field.variance)
    votes = np.where(reach > 0, 1, RARE)
    least = np.where(reach > 0, WIDE, WIDER)
    gaps, covariances, weights = [np.zeros_like(local.value)], [covariance], []
    for step in AROUND:
        y, x = rows + step[0], cols + step[1]
        there = (y >= 0) & (y < ok.shape[0]) & (x >= 0) & (x < ok.shape[1])
        y, x = y % ok.shape[0], x % ok.shape[1]
        there &= ok[y, x] & (reach[y, x] >= least)
        back = np.array([1, *np.negative(step)], float)
        value = local.value[y, x] + np.einsum("i,yxij->yxj", back[1:], local.slope[y, x])
        spread = np.einsum("i,yxij,j->yx", back, local.spread[y, x], back)
        added = covariance[y, x] - local.covariance[y, x]  # bias
        theirs = spread[..., None, None] * local.shape[y, x] + added
        gap = gap_between(value, local.value, period)
        alike = (squared_distance(gap, theirs + covariance) < same) & (reach > 0)
        votes += there & alike
        likelihood = np.exp(np.clip(own - misfit(value), -FARTHEST, FARTHEST) / 2)
        gaps.append(gap)
        covariances.append(theirs)
        weights.append(np.where(there & ~alike, likelihood, 0))
    share = np.stack([votes, *weights])
    share /= share.sum(axis=0)
    gap = np.stack(gaps)
    mean = np.einsum("kyx,kyxi->yxi", share, gap)
    apart = gap - mean
    mixed = np.einsum("kyx,kyxij->yxij", share, np.stack(covariances))
    mixed += np.einsum("kyx,kyxi,kyxj->yxij", share, apart, apart)
    return local.value + mean, mixed
