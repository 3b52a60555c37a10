"""Are two domains the same but for a small turn? Of a coarse and a fine division this is what speaks for the coarse one."""

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.beam import Prepared
from jax4dstem.domains.shares import inside_domains
from jax4dstem.patterns.polar import to_polar
from jax4dstem.reducers import Mean
from jax4dstem.rows import evenly_spaced, to_map
from jax4dstem.stream import reduce_patterns

# Degrees: what is turned by less is one grain by the usual setting of orientation mapping, and a field inside of it.
SMALL = 5.0
# Correlation of two mean patterns, one turned: 0.94 and more of one crystal turned by 2 to 3 degrees, 0.81 and less of different grains.
ALIKE = 0.88
SHOWN = 64  # patterns of a domain that its means are taken of
KNOWN = 0.3  # correlation of the halves of a domain's patterns; where it is less there is little but noise to compare
RINGS, ANGLES = 40, 720  # half a degree
RIMS = 0.05  # of all positions: as many may lie in other domains because a border runs elsewhere


def same_but_turned(prepared: Prepared, fine: np.ndarray, coarse: np.ndarray) -> bool:
    r"""Whether what a coarse division joins is the same pattern, turned by a few degrees.

    Mean patterns s, the root of counts times radius on rings, without their mean over each ring, correlate at a turn α as

    .. math:: c_{12}(α) = \frac{\sum_r \int s_1(r, φ) \, s_2(r, φ + α) \, dφ}{|s_1| \, |s_2|} .

    Noise lowers it as it lowers that of two halves of one domain's patterns, :math:`\sqrt{c_{11} c_{22}}`, which it is divided by.

    Args:
        prepared: Patterns.
        fine: Domains of the valid positions, numbered from 0, ``(n,)``.
        coarse: The coarse division, the same shape.

    Returns:
        True where nothing else is joined, but for rims.
    """
    joined = _joined(fine, coarse)
    moved = {part: int(np.sum(fine == part)) for parts in joined for part in parts[1:]}
    if sum(moved.values()) <= RIMS * len(fine):
        return True
    halves = _on_rings(prepared, fine)
    others = [
        moved[part]
        for parts in joined
        for part in parts[1:]
        if not _alike(halves[:, parts[0]], halves[:, part])
    ]
    return sum(others) <= RIMS * len(fine)


def correlation_when_turned(first: np.ndarray, second: np.ndarray, most: float = SMALL) -> float:
    """Largest correlation of two patterns on rings, ``(radii, angles)``, over turns up to so many degrees.

    Example:
        >>> angle = np.arange(720) * np.pi / 360
        >>> spots = np.cos(6 * angle)[None] ** 8
        >>> [round(correlation_when_turned(spots, np.roll(spots, 2 * by)), 2) for by in (3, 15)]  # degrees
        [1.0, -0.48]
    """
    first, second = (part - part.mean(axis=1, keepdims=True) for part in (first, second))
    spectra = np.conj(np.fft.rfft(first)) * np.fft.rfft(second)
    along = np.fft.irfft(spectra.sum(axis=0), first.shape[1])
    steps = int(most / 360 * first.shape[1])
    near = along[np.arange(-steps, steps + 1)]
    return float(near.max() / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-30))


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Of two halves of the patterns of each, ``(2, radii, angles)``: whether they are the same but for noise and a small turn."""
    own = [correlation_when_turned(part[0], part[1], 0.0) for part in (first, second)]
    if min(own) < KNOWN:
        return False
    across = [correlation_when_turned(first[n], second[1 - n]) for n in (0, 1)]
    return float(np.mean(across) / np.sqrt(own[0] * own[1])) > ALIKE


def _joined(fine: np.ndarray, coarse: np.ndarray) -> list[list[int]]:
    """Fine domains that share a coarse one, the largest first."""
    shared = np.zeros((fine.max() + 1, coarse.max() + 1), int)
    np.add.at(shared, (fine, coarse), 1)
    home, size = shared.argmax(axis=1), shared.sum(axis=1)
    groups = [np.flatnonzero(home == n) for n in range(shared.shape[1])]
    return [group[np.argsort(-size[group])].tolist() for group in groups if len(group) > 1]


def _on_rings(prepared: Prepared, labels: np.ndarray) -> np.ndarray:
    """Root of the mean of either half of every domain's patterns, on rings, each pixel by its area, ``(2, domains, radii, angles)``."""
    where = to_map(labels, prepared.valid, -1)
    inside, shown = inside_domains(where), np.zeros(where.size, bool)
    for part in range(labels.max() + 1):
        rows = np.flatnonzero((where == part) & inside)
        rows = rows if len(rows) else np.flatnonzero(where == part)
        shown[rows[evenly_spaced(len(rows), SHOWN)]] = True
    shown = shown.reshape(where.shape)
    part, number = where[shown], labels.max() + 1
    # Every second pattern of a domain, whatever lies between.
    order = np.argsort(part, kind="stable")
    half = np.empty(len(part), int)
    half[order] = np.arange(len(part)) % 2
    members = np.eye(2 * number)[half * number + part][:, None]
    means = reduce_patterns(Mean(), prepared.patterns.at(shown), weights=members)
    (inner, outer), shape = prepared.ring, (RINGS, ANGLES)
    center = jnp.asarray(prepared.center)
    rings = jax.vmap(lambda mean: to_polar(mean, center, inner, outer, shape))(jnp.asarray(means))
    radius = np.linspace(inner, outer, RINGS)[:, None]
    return np.sqrt(np.maximum(np.asarray(rings), 0) * radius).reshape(2, number, RINGS, ANGLES)
