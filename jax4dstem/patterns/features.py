"""From patterns to feature vectors: which pixels tell positions apart, and how they are weighted."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.noise import COUNTED, Noise, quietest_gain
from jax4dstem.patterns.align import DirectBeam
from jax4dstem.typing import Array, Bool, Float, Int, Num

MOST = 0.95  # share of what varies beyond shot noise, within the radius that is looked at
DARK = 0.05  # of the mean variance, added to every feature's: nearly dark pixels are not blown up


def ring_radii(
    beam: DirectBeam, centers: np.ndarray, shape: tuple[int, int]
) -> tuple[float, float]:
    """Default annular mask: outside the direct beam, inside what every pattern covers.

    The inner radius is twice the beam radius plus the two pixels that interpolation and blur soften;
    the outer one reaches the nearest detector edge of the most off-center pattern but 1 %. A beam that fills
    the detector leaves no ring; then the inner radius is 0.

    Args:
        beam: Direct beam of the mean pattern.
        centers: ``(scan_y, scan_x, 2)`` beam centers, px.
        shape: ``(det_y, det_x)``.

    Returns:
        Inner and outer radius in px.

    Raises:
        InputError: The beam lies at the edge of the detector.

    Example:
        >>> beam = DirectBeam(np.array([32.0, 31.0]), 4.0)
        >>> ring_radii(beam, np.full((2, 3, 2), 32.0), (64, 64))
        (10.0, 31.0)
    """
    # One center in a hundred may be wrong, and must not shrink the ring of all.
    low, high = np.nanpercentile(centers, [1, 99], axis=(0, 1))
    outer = float(np.floor(min(low.min(), *(np.array(shape) - 1 - high))))
    inner = float(np.ceil(2 * beam.radius + 2))
    if outer < 2:
        raise InputError(
            f"the direct beam lies at the edge of the {shape[0]} x {shape[1]} detector: no ring fits "
            "around it; give features.inner and features.outer"
        )
    if inner >= outer:  # a beam that fills the detector: what varies inside it is all there is
        inner = 0.0
    return inner, outer


def scattering_radius(
    mean: np.ndarray, std: np.ndarray, center: np.ndarray, inner: float, outer: float
) -> float:
    r"""Radius that holds 95 % of what varies over the scan beyond shot noise.

    .. math:: \int_{r_i}^{R} \left( σ^2 - γ μ \right) dA = 0.95 \int_{r_i}^{r_o} \left( σ^2 - γ μ \right) dA

    with the noise's variance over its mean, γ, from those rings where the ratio is least: 1 for counts, less after
    interpolation, other for a detector with gain. The radius depends on the specimen's reflections, and neither on the
    dose nor on how far the detector reaches.

    Args:
        mean: ``(det_y, det_x)``, mean counts μ.
        std: Their standard deviation σ over the scan, ``(det_y, det_x)``.
        center: (y, x) of the direct beam, px.
        inner: Smallest radius that counts, px.
        outer: Largest one.

    Returns:
        The radius in px; ``outer`` where nothing varies beyond shot noise.

    Example:
        >>> radius = np.hypot(*(np.indices((33, 33)) - 16))
        >>> mean = np.full((33, 33), 4.0)
        >>> spread = np.sqrt(mean + 9 * (radius < 8))  # beyond shot noise only within 8 px
        >>> scattering_radius(mean, spread, np.array([16.0, 16.0]), 2.0, 16.0)
        9.0

    Reference: ours.
    """
    y, x = np.indices(mean.shape)
    ring = np.round(np.hypot(y - center[0], x - center[1])).astype(int)
    variance = np.bincount(ring.ravel(), np.asarray(std, np.float64).ravel() ** 2)
    total = np.bincount(ring.ravel(), np.asarray(mean, np.float64).ravel())
    radii = np.arange(len(total))
    used = (radii >= inner) & (radii <= outer) & (total > 0)
    if not used.any():
        return outer
    noise = quietest_gain(total[used], variance[used])
    excess = np.where(used, np.maximum(variance - noise.variance(total), 0), 0)
    if not excess.any():
        return outer
    return float(min(np.searchsorted(np.cumsum(excess), MOST * excess.sum()) + 1, outer))


def top_fraction(values: np.ndarray, mask: np.ndarray, fraction: float) -> np.ndarray:
    """Restrict a mask to the ``fraction`` of its pixels with the largest values.

    Args:
        values: Any shape, such as the ``(det_y, det_x)`` of the standard deviation over the scan.
        mask: Boolean, of the same shape.
        fraction: Share of the mask's pixels to keep, in (0, 1].

    Returns:
        Boolean, the same shape.

    Raises:
        InputError: The fraction is no such share.

    Example:
        >>> top_fraction(np.array([1.0, 5.0, 3.0, 9.0]), np.array([True, True, True, False]), 0.4).tolist()
        [False, True, False, False]

    Reference: Shi et al., npj Comput. Mater. 8, 114 (2022): 24 to 57 px, the top 30 %.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"the fraction of pixels must lie in (0, 1], got {fraction:g}")
    threshold = np.quantile(values[mask], 1 - fraction)
    return mask & (values >= threshold)


@dataclass(frozen=True)
class SumOpposites:
    r"""Pattern function: sums over square boxes, each with the box opposite to it across the direct beam.

    .. math:: s_{jk} = \sum_{p \in B_{jk}} n_p + \sum_{p \in B_{-j,-k}} n_p

    Of a disk they hold what it scatters; of opposite ones their sum, which a small tilt of the crystal does not change to first
    order. They are linear in the counts: where two crystals share a position, so do their sums.

    Attributes:
        corner: First pixel (y, x) of the grid of boxes.
        boxes: Boxes along y and x, both odd: the middle one holds the direct beam.
        side: Of a box in px.

    Example:
        >>> sums = SumOpposites((0, 0), (3, 3), 1)(jnp.arange(9.0).reshape(3, 3))
        >>> sums.tolist()
        [[8.0, 8.0, 8.0], [8.0, 8.0, 8.0], [8.0, 8.0, 8.0]]
    """

    corner: tuple[int, int]
    boxes: tuple[int, int]
    side: int

    def __call__(self, pattern: Num[Array, "det_y det_x"]) -> Float[Array, "box_y box_x"]:
        """Sums ``(box_y, box_x)``, the same at opposite places."""
        (y, x), (rows, columns), side = self.corner, self.boxes, self.side
        inside = pattern[y : y + rows * side, x : x + columns * side].astype(float)
        sums = inside.reshape(rows, side, columns, side).sum(axis=(1, 3))
        return sums + sums[::-1, ::-1]


def gather_features(
    pattern: Num[Array, "..."], pixels: Int[Array, " features"], scale: Float[Array, " features"]
) -> Float[Array, " features"]:
    """Feature vector: the chosen pixels (flat indices) times their scale.

    Args:
        pattern: Any shape, such as ``(det_y, det_x)``.
        pixels: ``(features,)`` indices into the flattened pattern, from `mask_pixels`.
        scale: ``(features,)`` factors.

    Returns:
        ``(features,)``.

    Example:
        >>> pattern = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> gather_features(pattern, jnp.array([1, 2]), jnp.array([1.0, 10.0])).tolist()
        [2.0, 30.0]
    """
    return pattern.reshape(-1)[pixels] * scale


def root_counts(pattern: Num[Array, "..."], noise: Noise = COUNTED) -> Float[Array, "..."]:
    r"""Variance-stabilized counts, :math:`2 \sqrt{n + 3/8}` of counted electrons: noise is 1 in every pixel.

    Args:
        pattern: Counts, any shape.
        noise: How counts scatter.

    Returns:
        The shape of the pattern.

    Example:
        >>> root_counts(jnp.array([0.625])).tolist()
        [2.0]

    Reference: Anscombe, Biometrika 35, 246 (1948), eq. 1.
    """
    return noise.stabilize(pattern)


def root_shares(values: Num[Array, " n"]) -> Float[Array, " n"]:
    r"""Roots of each value's share of their sum, :math:`\sqrt{v_i / \sum_j v_j}`: a vector of norm 1.

    The distance of two such vectors is Hellinger's. Of a cepstrum they say which peaks there are rather than how strong: the
    strength goes up and down with tilt and thickness.

    Args:
        values: ``(n,)``; negative ones count as zero.

    Returns:
        ``(n,)``, of unit norm.

    Example:
        >>> root_shares(jnp.array([1.0, 3.0])).round(1).tolist()[0]
        0.5
    """
    values = jnp.maximum(values.astype(float), 0)
    tiny = jnp.finfo(values.dtype).tiny
    return jnp.sqrt(values / jnp.maximum(jnp.sum(values), tiny) + tiny)


def log_counts(pattern: Num[Array, "..."], offset: Float[Array, ""] | float) -> Float[Array, "..."]:
    r"""Logarithm of the counts, :math:`\ln(I / \bar I + ε)`, with ε relative to the mean intensity.

    Args:
        pattern: Counts, any shape; negative ones count as zero.
        offset: ε: what is much darker than ε times the mean is all the same.

    Returns:
        The shape of the pattern.

    Example:
        >>> log_counts(jnp.array([1.0, 1.0]), 0.0).tolist()
        [0.0, 0.0]
    """
    values = jnp.maximum(pattern.astype(float), 0)
    return jnp.log(values / jnp.mean(values) + offset)


def noise_scale(mean: np.ndarray, selected: np.ndarray, noise: Noise = COUNTED) -> np.ndarray:
    r"""Scale that makes noise equal in all features, :math:`1 / \sqrt{\operatorname{var}(\mu)}`.

    Counted electrons of mean μ have variance μ. Dividing by the square root of the *scan's mean*, unlike taking
    the square root of each count, keeps features linear in intensity, so a probe half on each of two
    domains lies halfway between their clusters. A floor of 5 % of the features' average variance keeps
    nearly dark pixels from being blown up.

    Args:
        mean: ``(det_y, det_x)`` mean pattern.
        selected: Boolean ``(det_y, det_x)``.
        noise: How counts scatter.

    Returns:
        ``(features,)``.

    Example:
        >>> scale = noise_scale(np.array([[100.0, 400.0]]), np.ones((1, 2), bool))
        >>> round(float(scale[0] / scale[1]), 2)  # 2 but for the floor
        1.91
    """
    variance = noise.variance(np.maximum(np.asarray(mean, np.float64)[selected], 0))
    floor = DARK * variance.mean() + np.finfo(np.float32).tiny
    return (1 / np.sqrt(variance + floor)).astype(np.float32)


def mask_pixels(mask: Bool[np.ndarray, "..."]) -> np.ndarray:
    """Flat indices of a mask's pixels, as `gather_features` takes them.

    Args:
        mask: Any shape, such as ``(det_y, det_x)``.

    Returns:
        ``(pixels,)`` int32, in increasing order.

    Example:
        >>> mask_pixels(np.array([[False, True], [True, False]])).tolist()
        [1, 2]
    """
    return np.flatnonzero(mask).astype(np.int32)
