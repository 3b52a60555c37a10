"""Do features change from one domain to its neighbor within the width of the probe, or over many positions? What changes gradually is one domain.

Sets of points with a gap between them need not be two domains: a bent crystal that is scanned coarsely has patterns of both of its
flanks and few of what lies between. But along the way from one flank to the other its patterns change all the time, whereas those of two
domains change only where the probe sees both, however much either varies beside. How wide that is the scan itself tells: no border is sharper than the probe.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import erf

from jax4dstem.domains.steps import DIRECTIONS
from jax4dstem.rows import to_map

LINES = 10  # across a border in one direction, at least, of which it can be judged: of 6 to 8 some sharp borders of small grains look gradual
RUN = (
    LINES // 2
)  # lines side by side that are taken for one where their scatter tells an error: they cross much the same patterns
INNER = (1, 2, 3)  # positions on either side that the middle of a line reaches beyond the border
CERTAIN = 2.0  # standard errors of a share that are added to it: a border is gradual beyond doubt, or sharp
SHARPEST = 0.75  # quantile of the scan's borders that are taken for the probe's width
# Share of a change over 7 positions that lies within the 3 in the middle, of a sharp border at least: 0.43 where the change is even, 0.62 where all of a
# wave's swing fits into them; with a probe of 1.06 positions (standard deviation) across a border 0.84, of 1.35 0.75. In scans of grains, twins and a
# particle 0.46 to 0.71 inside domains, at their borders 0.79 and more, but for a few small parts.
SHARP = 0.75
CLEAR = 0.85  # such a share of a middle wider by a position on either side: gradual borders have 0.83 and less there, but for one in ten
# Times the width of the scan's sharpest borders that another one may have: a probe with long tails, or facets that are inclined, make borders of a
# measured scan of cubes up to 1.4 times as wide as its sharpest.
WIDER = 1.6
NARROW = 0.3  # positions: of a narrower probe no position shows two domains


def join_gradual(points: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    r"""Join neighboring domains between which features change gradually, the most gradual first.

    On straight lines across a border from domain a to domain b, on which m + 1 positions on either side are of one domain each, features t
    change by :math:`D_m = t_{m+1} - t_{-m}`. With the mean over all lines of one direction, and k = 2m + 1,

    .. math:: s = \frac{\bar D_m \cdot \bar D_k}{|\bar D_k|^2}

    is the share of the change that lies in the middle of the line; the direction of the largest counts, for it crosses the border most steeply. The
    smallest m counts at which the sharpest borders of the scan are sharp; of these the width σ is taken, with the share of a Gaussian probe's edge,

    .. math:: s(σ) = \operatorname{erf} \frac{m + 1/2}{\sqrt 2 σ} \Big/ \operatorname{erf} \frac{k + 1/2}{\sqrt 2 σ} ,

    and borders much wider than these are gradual, if this is beyond the noise and beyond how lines along the border differ: where both sides vary as much as they
    differ, as crystals of many extinction distances do, few parts of a border tell nothing. Borders that have too few lines are taken for sharp.

    Args:
        points: Features of the valid positions, no means over neighbors, in units of their noise, ``(n, d)``.
        labels: Their domains, numbered from 0, ``(n,)``.
        valid: Where they are, boolean ``(scan_y, scan_x)``.

    Returns:
        The domains that are left, numbered from 0, ``(n,)``.

    Example:
        >>> x = np.tile(np.arange(40.0), (10, 1))  # a ramp, then a step
        >>> bent = np.where(x < 30, 3 * x, 400) + np.random.default_rng(0).normal(0, 1, x.shape)
        >>> labels = np.digitize(x, [15, 30]).ravel()
        >>> np.bincount(join_gradual(bent.reshape(-1, 1), labels, np.ones(x.shape, bool))).tolist()
        [300, 100]
    """
    maps = to_map(points, valid, 0.0)
    inner, least = _beyond_the_probe(maps, to_map(labels, valid, -1))
    while inner and labels.max() > 0:
        sharpness = _over_the_least(maps, to_map(labels, valid, -1), inner, least)
        one, other = np.unravel_index(np.nanargmin(sharpness), sharpness.shape)
        if sharpness[one, other] >= 1:
            break
        labels = np.where(labels == other, one, labels)
        labels = np.unique(labels, return_inverse=True)[1]
    return labels


def _beyond_the_probe(maps: np.ndarray, domains: np.ndarray) -> tuple[int, float]:
    """How far the middle of a line reaches, so that the scan's sharpest borders are sharp, and the least share there; 0 if they never are."""
    for inner in INNER:
        every = _sharpness(maps, domains, inner)
        known = every[np.isfinite(every)]
        sharpest = np.quantile(known, SHARPEST, method="higher") if len(known) else 0.0
        if sharpest > SHARP:
            return inner, min(SHARP, _in_the_middle(WIDER * _width(sharpest, inner), inner))
    return 0, 0.0


def _over_the_least(maps: np.ndarray, domains: np.ndarray, inner: int, least: float) -> np.ndarray:
    """Sharpness of every border in units of the least of a sharp one, by the middle or by the next wider one where that is known."""
    wider = _sharpness(maps, domains, inner + 1)
    wider[np.isinf(wider)] = 0.0
    return np.maximum(_sharpness(maps, domains, inner) / least, wider / CLEAR)


def _in_the_middle(width: float, inner: int) -> float:
    """Share of the change across an edge that a Gaussian probe of so many positions (standard deviation) makes."""
    middle, whole = (reach + 0.5 for reach in (inner, 2 * inner + 1))
    return float(erf(middle / (np.sqrt(2) * width)) / erf(whole / (np.sqrt(2) * width)))


def _width(share: float, inner: int) -> float:
    """The probe that makes edges with such a share, more than `SHARP`, positions."""
    if share >= _in_the_middle(NARROW, inner):
        return NARROW
    return float(brentq(lambda width: _in_the_middle(width, inner) - share, NARROW, 2.0 * inner))


def _sharpness(maps: np.ndarray, domains: np.ndarray, inner: int) -> np.ndarray:
    """Share of the change across every border that lies in the middle, ``(domains, domains)``, upper triangle; infinite where that is not known."""
    number, outer = domains.max() + 1, 2 * inner + 1
    (rows, columns), margin = domains.shape, outer + 1
    framed = np.pad(domains, margin, constant_values=-1)
    features = np.pad(maps, ((margin, margin), (margin, margin), (0, 0)))
    best = np.full((number, number), -np.inf)
    for y, x in DIRECTIONS:

        def at(of: np.ndarray, step: int, y: int = y, x: int = x) -> np.ndarray:
            top, left = margin + step * y, margin + step * x
            return of[top : top + rows, left : left + columns]

        before, after = at(framed, 0), at(framed, 1)
        crossed = (before != after) & (before >= 0) & (after >= 0)
        for step in range(1, outer + 1):
            crossed &= (at(framed, -step) == before) & (at(framed, 1 + step) == after)
        if not crossed.any():
            continue
        pair = np.sort([before[crossed], after[crossed]], axis=0)
        sign = np.where(before[crossed] < after[crossed], 1.0, -1.0)[:, None]
        middle, whole = (
            sign * (at(features, 1 + reach)[crossed] - at(features, -reach)[crossed])
            for reach in (inner, outer)
        )
        borders, of = np.unique(pair, axis=1, return_inverse=True)
        most = _most_in_the_middle(middle, whole, of.ravel())
        best[tuple(borders)] = np.maximum(best[tuple(borders)], most)
    return np.where(np.isfinite(best), best, np.inf)


def _most_in_the_middle(middle: np.ndarray, whole: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Share of the change that lies in the middle, and two standard errors; -inf for borders of few lines.

    Args:
        middle: Change in the middle of every line, the lines in the order of the scan, ``(n, d)``.
        whole: Along the whole of it, the same shape.
        of: The border that it crosses, numbered from 0, ``(n,)``.
    """
    lines = np.bincount(of)
    inner, outer = _sums(middle, of) / lines[:, None], _sums(whole, of) / lines[:, None]
    # Means over lines, of ends whose noise is one: what it adds to the square of the change, and the error that it leaves.
    squared = np.maximum(np.sum(outer**2, axis=1) - 2 * whole.shape[1] / lines, 1e-9)
    share = np.sum(inner * outer, axis=1) / squared
    noise = 2 / lines / squared
    # Lines also differ because what varies along the border does, and more so the farther apart they are.
    turned = inner - 2 * share[:, None] * outer
    pull = np.sum((middle - inner[of]) * outer[of] + (whole - outer[of]) * turned[of], axis=1)
    order = np.argsort(of, kind="stable")
    place = np.arange(len(of)) - (np.cumsum(lines) - lines)[of[order]]
    starts = np.flatnonzero(place % RUN == 0)
    runs = np.add.reduceat((pull / squared[of] / lines[of])[order], starts)
    scatter = np.bincount(of[order][starts], runs**2)
    most = share + CERTAIN * np.sqrt(np.maximum(noise, scatter))
    return np.where(lines >= LINES, most, -np.inf)


def _sums(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Of the rows of every group, numbered from 0."""
    total = np.zeros((of.max() + 1, values.shape[1]))
    np.add.at(total, of, values)
    return total
