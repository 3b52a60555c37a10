"""Do features change from one domain to its neighbor within a position or two, or over many? What changes gradually is one domain.

Sets of points with a gap between them need not be two domains: a bent crystal that is scanned coarsely has patterns of both of its
flanks and few of what lies between. But along the way from one flank to the other its patterns change all the time, whereas those of two
domains change only where the probe sees both. How wide that is the scan itself tells: no border is sharper than the probe.
"""

import numpy as np
from scipy import ndimage

from jax4dstem.domains.gaps import discriminant
from jax4dstem.rows import to_map

BORDER = 8  # positions next to the other domain, at least, of a border that can be judged
AT_EACH = 6  # positions at a distance from it, at least, that a median is taken of
DISTANCES = np.arange(2, 5)  # from the other domain, in positions: next to it a position shows both
SHARPEST = (
    0.25  # quantile of the scan's borders, sharpest first, that are taken for the probe's width
)
# Share of the way from one domain to the other that is left at a distance: of the sharpest borders at most, where that distance is judged at;
# of a gradual border at least. Of 120 borders in five specimens 0.2 parts 9 of 10 rightly.
SHARP, GRADUAL = 0.1, 0.22


def join_gradual(points: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    r"""Join neighboring domains between which features change gradually, the most gradual first.

    Features t along the line from domain a to domain b are 0 in the middle of a and 1 in that of b. At a distance d from the other domain

    .. math:: g(d) = \operatorname{med} t_a(d) + 1 - \operatorname{med} t_b(d)

    is what is left of the way: nothing at a sharp border, once d is beyond the probe.

    Args:
        points: Features of the valid positions, ``(n, d)``.
        labels: Their domains, numbered from 0, ``(n,)``.
        valid: Where they are, boolean ``(scan_y, scan_x)``.

    Returns:
        The domains that are left, numbered from 0, ``(n,)``.

    Example:
        >>> x = np.tile(np.arange(40.0), (10, 1))  # a ramp, then a step
        >>> bent = np.where(x < 30, x / 3, 40) + np.random.default_rng(0).normal(0, 0.1, x.shape)
        >>> labels = np.digitize(x, [15, 30]).ravel()
        >>> np.bincount(join_gradual(bent.reshape(-1, 1), labels, np.ones(x.shape, bool))).tolist()
        [300, 100]
    """
    maps, nearest = to_map(points, valid, 0.0), None
    while labels.max() > 0:
        left = _borders(maps, points, labels, valid)
        if not left:
            break
        if nearest is None:
            sides = np.array(list(left.values()))
            nearest = _beyond_the_probe(2 * sides.min(axis=1))
        if nearest is None:
            break
        at = {pair: np.nan_to_num(sides[:, nearest].sum()) for pair, sides in left.items()}
        pair = max(at, key=at.__getitem__)
        if at[pair] < GRADUAL:
            break
        labels = np.where(labels == pair[1], pair[0], labels)
        labels = np.unique(labels, return_inverse=True)[1]
    return labels


def _beyond_the_probe(left: np.ndarray) -> int | None:
    """Index of the first distance at which the scan's sharpest borders are over, by ``(borders, distances)`` of their flatter sides: a domain may vary itself."""
    for index, of in enumerate(left.T):
        known = of[np.isfinite(of)]
        if len(known) and np.quantile(known, SHARPEST, method="lower") < SHARP:
            return index
    return None


def _borders(
    maps: np.ndarray, points: np.ndarray, labels: np.ndarray, valid: np.ndarray
) -> dict[tuple[int, int], np.ndarray]:
    """What is left of the way on either side, ``(2, distances)``, for every pair of domains with a border."""
    domains = to_map(labels, valid, -1)
    away = [ndimage.distance_transform_edt(domains != n) for n in range(labels.max() + 1)]
    left = {}
    for b, from_b in enumerate(away):
        for a, from_a in enumerate(away[:b]):
            of_a, of_b = domains == a, domains == b
            if np.sum(of_a & (from_b < 1.1)) < BORDER:
                continue
            axis = discriminant(points[labels == a], points[labels == b])
            along = maps @ axis
            low, high = np.median(along[of_a]), np.median(along[of_b])
            if high <= low:
                continue
            along = (along - low) / (high - low)
            left[a, b] = np.array([_at(along, of_a, from_b), 1 - _at(along, of_b, from_a)])
    return left


def _at(along: np.ndarray, domain: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Median of a domain's positions at each distance from another; NaN where there are few."""
    parts = [along[domain & (np.abs(away - distance) < 0.5)] for distance in DISTANCES]
    return np.array([np.median(p) if len(p) >= AT_EACH else np.nan for p in parts])
