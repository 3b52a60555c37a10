"""Exit-wave power cepstrum (EWPC): what distances are in the crystal, seen in one pattern."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jax4dstem.coordinates import Calibration, radius_from
from jax4dstem.maxima import parabola_vertex
from jax4dstem.typing import Array, Bool, Float, FloatPattern, Pattern, Point, Real, Scalar

# Standard deviation of a Gaussian window in covered radii: it is down to 4 % where the detector ends.
GAUSSIAN_SHARE = 0.4


def ewpc(
    pattern: Pattern, center: Point, width: Scalar, offset: Scalar
) -> Float[Array, "det_y half_x"]:
    r"""Exit-wave power cepstrum of one pattern, as its right half plane.

    .. math::
        C(r) = \left| \mathcal F \left[ w(k)\,
               \left( \ln(I(k)/\bar I + ε) - \overline{\ln} \right) \right] \right| ,
        \qquad w(k) = e^{-|k - c|^2 / 2σ^2}

    with the mean intensity :math:`\bar I` and the window-weighted mean :math:`\overline{\ln}` of the
    logarithm, whose removal takes the window's own peak off the origin. Peaks lie at the interatomic
    (lattice) vectors of the projected structure. C does not change with the intensity scale, nor when
    the pattern is inverted through its center, and it is symmetric: :math:`C(-r) = C(r)`, so the
    half plane ``x >= 0`` holds everything (`unfold_cepstrum` gives the other half). `Cepstrum` has
    other windows and padding.

    Args:
        pattern: ``(det_y, det_x)`` counts.
        center: ``(y, x)`` of the direct beam, px; the window is centered there.
        width: Standard deviation σ of the Gaussian window, px.
        offset: ε, relative to the mean intensity; about one count keeps noise from dominating.

    Returns:
        ``(det_y, det_x // 2 + 1)``; zero quefrency at ``[det_y // 2, 0]``, axes from
        `quefrency_axes`. NaN for an empty pattern.

    Example:
        >>> import jax.numpy as jnp
        >>> k = jnp.arange(64.0)
        >>> fringes = 1 + 0.5 * jnp.cos(2 * jnp.pi * 8 * k / 64) * jnp.ones((64, 1))
        >>> C = ewpc(fringes, jnp.array([32.0, 32.0]), 12.0, 0.1)
        >>> int(C[32].argmax())
        8

    Reference: Padgett et al., Ultramicroscopy 214, 112994 (2020), eq. 1.
    """
    return Cepstrum()(pattern, center, width, offset)


@dataclass(frozen=True)
class Cepstrum:
    r"""The exit-wave power cepstrum, `ewpc`, with a choice of window and padding.

    Attributes:
        shape: Of the window: "gaussian", of which ``width`` is the standard deviation, or "hann",
            :math:`w = \cos^2(\pi |k - c| / 2 R)` inside the radius R = ``width``: no tail, so nothing of the
            detector's rim enters, and narrower peaks for the same covered radius.
        padding: The transform is over so many times the detector: finer quefrencies, by interpolation.

    Example:
        >>> import jax.numpy as jnp
        >>> Cepstrum("hann", padding=2)(jnp.ones((32, 32)), jnp.array([16.0, 16.0]), 15.0, 0.1).shape
        (64, 33)
    """

    shape: Literal["gaussian", "hann"] = "gaussian"
    padding: int = 1

    def __call__(
        self, pattern: Pattern, center: Point, width: Scalar, offset: Scalar
    ) -> Float[Array, "size_y half_x"]:
        """The cepstrum's right half plane; ``width`` of the window in px, the rest as in `ewpc`."""
        return self._transform(_logarithm(pattern, offset), center, width)

    def difference(
        self,
        pattern: Pattern,
        reference: Float[Array, "det_y det_x"],
        center: Point,
        width: Scalar,
        offset: Scalar,
    ) -> Float[Array, "size_y half_x"]:
        r"""Difference cepstrum: what a pattern has and a reference has not.

        .. math:: C(r) = \left| \mathcal F \left[ w \left( \ln(I/\bar I + ε) -
                  \ln(I_0/\bar I_0 + ε) - \overline{\ln} \right) \right] \right|

        The logarithms are subtracted before the modulus, so what both share cancels with its phase. The
        reference is another position, or the mean pattern of the scan or of a cluster.

        Reference: Shao et al., Ultramicroscopy 231, 113252 (2021).
        """
        logarithm = _logarithm(pattern, offset) - _logarithm(reference, offset)
        return self._transform(logarithm, center, width)

    def _transform(self, logarithm: Array, center: Point, width: Scalar) -> Array:
        distance = radius_from(center, logarithm.shape)
        if self.shape == "gaussian":
            weight = jnp.exp(-0.5 * (distance / width) ** 2)
        else:
            weight = jnp.cos(0.5 * jnp.pi * jnp.minimum(distance / width, 1.0)) ** 2
        mean = jnp.sum(weight * logarithm) / jnp.sum(weight)
        size = tuple(self.padding * n for n in logarithm.shape)
        spectrum = jnp.fft.rfft2((logarithm - mean) * weight, s=size)
        return jnp.fft.fftshift(jnp.abs(spectrum), axes=0)


def _logarithm(pattern: Pattern, offset: Scalar) -> Array:
    return jnp.log(pattern / jnp.mean(pattern.astype(float)) + offset)


def covered_radius(center: np.ndarray, shape: tuple[int, ...]) -> float:
    """Radius within which the detector covers all of a pattern.

    Args:
        center: Of the direct beam, (y, x) in px.
        shape: ``(det_y, det_x)``.

    Returns:
        The radius in px.

    Example:
        >>> covered_radius(np.array([10.0, 14.0]), (32, 32))
        10.0
    """
    return float(min(*center, shape[0] - 1 - center[0], shape[1] - 1 - center[1]))


def count_offset(shape: tuple[int, int], dose: float) -> float:
    """The offset of the logarithm that is one count: below it there is no signal, only noise.

    Args:
        shape: ``(det_y, det_x)``.
        dose: Electrons per pattern.

    Returns:
        ε, relative to the mean intensity.

    Example:
        >>> count_offset((128, 128), 16384.0)
        1.0
    """
    return shape[0] * shape[1] / dose


class CepstralPeaks(NamedTuple):
    """Sub-pixel maxima of the cepstrum.

    Attributes:
        positions: Quefrency (y, x) in px of the transform, ``(n, 2)``.
        variance: Of every coordinate, from the spread of the logarithm taken as noise.
        contrast: Height over what that noise alone would give.
    """

    positions: Float[Array, "n 2"]
    variance: Float[Array, "n 2"]
    contrast: Float[Array, " n"]


def refine_cepstral_peaks(
    pattern: Pattern,
    center: Point,
    width: Scalar,
    offset: Scalar,
    starts: Float[Array, "n 2"],
    iterations: int = 6,
) -> CepstralPeaks:
    r"""Maxima of the exit-wave power cepstrum near given quefrencies, between its pixels.

    The transform is evaluated at any real quefrency q,

    .. math:: C(q) = \Bigl| \sum_r w(r) \bigl( \ln(I/\bar I + ε) - \overline{\ln} \bigr)
              e^{-2\pi i \, q \cdot r / N} \Bigr| ,

    as two vector products, and Newton's method climbs ln C from each start. The logarithm's mean is that of the ring
    around the center (`ring_mean`). With fixed iterations the result is differentiable in everything but at its kinks: where
    a ring passes a pixel, and where a step is cut to half a pixel.

    Args:
        pattern: ``(det_y, det_x)`` counts.
        center: (y, x) of the direct beam in px.
        width: Standard deviation of the Gaussian window in px.
        offset: ε, relative to the mean intensity.
        starts: (y, x) in px of the transform, within about half a peak's width.
        iterations: Newton steps, each at most half a pixel.

    Returns:
        The peaks.

    Example:
        >>> import jax.numpy as jnp
        >>> k = jnp.arange(64.0)
        >>> fringes = 1 + 0.5 * jnp.cos(2 * jnp.pi * 8.3 * k / 64) * jnp.ones((64, 1))
        >>> start = jnp.array([[0.0, 8.0]])
        >>> peaks = refine_cepstral_peaks(fringes, jnp.array([32.0, 32.0]), 12.0, 0.1, start)
        >>> round(float(peaks.positions[0, 1]), 1)
        8.3

    Reference: Padgett et al., Ultramicroscopy 214, 112994 (2020), sec. 2.3.
    """
    logarithm = jnp.log(pattern / jnp.mean(pattern.astype(float)) + offset)
    distance = radius_from(center, pattern.shape)
    signal = (logarithm - ring_mean(logarithm, distance)) * jnp.exp(-0.5 * (distance / width) ** 2)
    height, width = pattern.shape
    # Angles from the center: the phase of a centered lattice then hardly turns with q.
    y = 2 * jnp.pi * (jnp.arange(height) - center[0]) / height
    x = 2 * jnp.pi * (jnp.arange(width) - center[1]) / width

    def power(q: Array) -> Array:
        rows = jnp.stack([jnp.cos(q[0] * y), jnp.sin(q[0] * y)])
        columns = jnp.stack([jnp.cos(q[1] * x), jnp.sin(q[1] * x)])
        (cc, cs), (sc, ss) = rows @ signal @ columns.T
        return jnp.log((cc - ss) ** 2 + (cs + sc) ** 2 + 1e-30)

    def climb(q: Array, _: None) -> tuple[Array, None]:
        slope, bend = jax.grad(power)(q), jax.hessian(power)(q)
        # Where the surface is not concave, a short step uphill.
        concave = (bend[0, 0] < 0) & (bend[0, 0] * bend[1, 1] > bend[0, 1] ** 2)
        bend = jnp.where(concave, bend, -4.0 * jnp.eye(2))
        step = -jnp.linalg.solve(bend, slope)
        longest = jnp.max(jnp.abs(step))
        return q + step * jnp.minimum(1.0, 0.5 / jnp.maximum(longest, 1e-9)), None

    def one(start: Array) -> tuple[Array, Array, Array]:
        q = jax.lax.scan(climb, start, None, length=iterations)[0]
        noise = jnp.sum(signal**2)
        contrast = jnp.exp(power(q)) / noise
        curvature = jnp.maximum(-jnp.diagonal(jax.hessian(power)(q)), 1e-6)
        spread = jnp.sum(signal**2 * y[:, None] ** 2), jnp.sum(signal**2 * x[None, :] ** 2)
        variance = 2 * jnp.stack(spread) / noise / contrast / curvature**2
        return q, variance, contrast

    return CepstralPeaks(*jax.vmap(one)(jnp.asarray(starts, float)))


def ring_mean(values: Pattern, distance: FloatPattern) -> FloatPattern:
    """Mean over every ring of one pixel's width, at each pixel.

    A pixel between two radii belongs to both rings by linear interpolation, and takes its mean from both in the same way:
    the result is continuous in the distances, and so in the center that they are measured from.

    Args:
        values: ``(det_y, det_x)``.
        distance: Of every pixel from the center, in px.

    Returns:
        The mean of each pixel's ring, of the same shape.

    Example:
        >>> import jax.numpy as jnp
        >>> distance = radius_from(jnp.array([3.2, 4.1]), (8, 8))
        >>> bool(jnp.allclose(ring_mean(jnp.full((8, 8), 2.0), distance), 2.0))
        True
    """
    size = int(np.hypot(values.shape[0], values.shape[1])) + 2
    inner = jnp.clip(jnp.floor(distance), 0, size - 2)
    outward = jnp.clip(distance - inner, 0.0, 1.0)
    ring = inner.astype(int)
    total = jnp.zeros(size).at[ring].add((1 - outward) * values).at[ring + 1].add(outward * values)
    count = jnp.zeros(size).at[ring].add(1 - outward).at[ring + 1].add(outward)
    mean = total / jnp.where(count > 0, count, 1.0)
    return (1 - outward) * mean[ring] + outward * mean[ring + 1]


def unfold_cepstrum(half: Float[Array, "... det_y half_x"], width: int) -> Float[Array, "..."]:
    """Whole cepstrum from its right half plane, zero quefrency at ``[det_y // 2, width // 2]``.

    Args:
        half: ``(..., det_y, width // 2 + 1)`` from `ewpc`.
        width: Number of columns of the pattern.

    Returns:
        ``(..., det_y, width)``.

    Example:
        >>> half = jnp.arange(12.0).reshape(4, 3)
        >>> unfold_cepstrum(half, 4)[1].tolist()  # the left comes from the opposite row
        [11.0, 10.0, 3.0, 4.0]
    """
    height = half.shape[-2]
    rows = (-jnp.arange(height) + 2 * (height // 2)) % height
    left = half[..., rows, :][..., :, width // 2 : 0 : -1]
    return jnp.concatenate([left, half[..., :, : width - width // 2]], axis=-1)


def quefrency_axes(
    shape: tuple[int, int], calibration: Calibration
) -> tuple[np.ndarray, np.ndarray, str]:
    """Quefrency of the rows and columns of the half plane, and their unit.

    Args:
        shape: ``(det_y, det_x)`` of the pattern.
        calibration: In Å when the detector pixel is calibrated, else px of the transform.

    Returns:
        Rows ``(det_y,)``, columns ``(det_x // 2 + 1,)`` and "Å" or "px".

    Example:
        >>> rows, columns, unit = quefrency_axes((4, 6), Calibration())
        >>> rows.tolist(), columns.tolist(), unit
        ([-2.0, -1.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0], 'px')
    """
    height, width = shape
    step_y, unit = calibration.quefrency_step(height)
    step_x, _ = calibration.quefrency_step(width)
    return (np.arange(height) - height // 2) * step_y, np.arange(width // 2 + 1) * step_x, unit


def cepstral_ring(shape: tuple[int, int], inner: float, outer: float) -> np.ndarray:
    """Half-plane mask of quefrencies between ``inner`` and ``outer``, in px of the transform.

    On the column x = 0 only one of each symmetric pair is kept, so no value counts twice.

    Args:
        shape: ``(det_y, det_x)`` of the pattern.
        inner: Smallest quefrency, px.
        outer: Largest quefrency, px.

    Returns:
        Boolean ``(det_y, det_x // 2 + 1)``.

    Example:
        >>> cepstral_ring((4, 4), 1, 1).astype(int).tolist()
        [[0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]]
    """
    y, x, _ = quefrency_axes(shape, Calibration())
    radius = np.hypot(y[:, None] * min(shape) / shape[0], x[None, :] * min(shape) / shape[1])
    once = (x[None, :] > 0) | (y[:, None] > 0)
    return (radius >= inner) & (radius <= outer) & once


def lattice_quefrencies(size: tuple[int, int], padding: int = 1) -> tuple[float, float]:
    """Between which quefrencies lattice vectors are looked for, in px of the transform.

    Nearer the origin lies what the window leaves of the probe; farther out there is little but noise.

    Args:
        size: Of the whole transform.
        padding: Of the transform.

    Returns:
        Smallest and largest quefrency.

    Example:
        >>> lattice_quefrencies((128, 128))
        (4.0, 32.0)
    """
    return 4.0 * padding, min(size) / 4


def flatten_rings(half: Real[Array, "size_y half_x"]) -> Float[Array, "size_y half_x"]:
    """A cepstrum divided by its mean at every distance from the origin: peaks far out count as near ones.

    Args:
        half: Right half plane, from `ewpc`.

    Returns:
        The same shape; 1 where there is only the mean of the ring.

    Example:
        >>> import jax.numpy as jnp
        >>> float(flatten_rings(3.0 * jnp.ones((8, 5)))[4, 2])
        1.0
    """
    half = half.astype(float)
    distance = radius_from(jnp.array([half.shape[0] // 2, 0.0]), half.shape)
    # These rings never move, so each pixel may belong to one of them only.
    return half / jnp.maximum(ring_mean(half, jnp.round(distance)), jnp.finfo(half.dtype).tiny)


def cepstral_contrast(
    half: Real[Array, "size_y half_x"], ring: Bool[Array, "size_y half_x"]
) -> Float[Array, ""]:
    r"""Crystallinity: power of the highest cepstral peak over the mean power, every distance weighing the same.

    .. math:: \max_r P(r) / \overline{P} , \qquad P = C^2 / \overline{C}^2_{|r|}

    Noise alone, and an amorphous film, has exponentially distributed power: the maximum of n values is about
    :math:`\ln n + 0.58` times the mean. A single crystal has a few sharp peaks that stand out tenfold and more; a
    polycrystal, many weaker ones.

    Args:
        half: Right half plane, from `ewpc`.
        ring: Where peaks are looked for, from `cepstral_ring`.

    Returns:
        The ratio; NaN for a cepstrum that is zero in the ring.

    Example:
        >>> import jax.numpy as jnp
        >>> ring = jnp.asarray(cepstral_ring((16, 16), 2, 6))
        >>> float(jax.jit(cepstral_contrast)(jnp.ones((16, 9)), ring))
        1.0

    Reference: ours.
    """
    power = jnp.where(ring, flatten_rings(half) ** 2, 0.0)
    return jnp.max(power) * jnp.sum(ring) / jnp.sum(power)


@dataclass(frozen=True)
class CepstrumPeak:
    """One local maximum of a cepstrum: where it lies and how high it is.

    Attributes:
        vector: Quefrency (y, x).
        length: Of the vector.
        unit: Of both, "Å" or "px".
        height: Above its surroundings.
    """

    vector: tuple[float, float]
    length: float
    unit: str
    height: float


def find_cepstrum_peaks(
    half: np.ndarray, shape: tuple[int, int], calibration: Calibration, inner: float
) -> list[CepstrumPeak]:
    """Local maxima of a (mean) cepstrum beyond ``inner`` px, highest first, with sub-pixel positions.

    A maximum is refined by a parabola through its neighbors along each axis.

    Args:
        half: ``(det_y, det_x // 2 + 1)`` from `ewpc`, averaged.
        shape: ``(det_y, det_x)`` of the pattern.
        calibration: For lengths in Å, and vectors in scan axes, undistorted.
        inner: Radius of the region around the origin that is ignored, px of the transform.

    Returns:
        Peaks that stand three robust standard deviations out of the surrounding cepstrum.

    Example:
        >>> half = np.random.default_rng(0).uniform(0, 0.1, (32, 17))
        >>> half[16, 8] = 5.0
        >>> peak = find_cepstrum_peaks(half, (32, 32), Calibration(), 3.0)[0]
        >>> tuple(round(q) for q in peak.vector), peak.unit
        ((0, 8), 'px')
    """
    unfold = jax.jit(unfold_cepstrum, static_argnums=1)
    full = np.asarray(unfold(half, shape[1]), np.float64)
    height, width = shape
    step_y, unit = calibration.quefrency_step(height)
    step_x, _ = calibration.quefrency_step(width)
    size = 2 * max(1, round(inner / 3)) + 1
    highest = ndimage.maximum_filter(full, size=size) == full
    level = ndimage.median_filter(full, size=2 * size + 1)
    noise = 1.4826 * np.median(np.abs(full - level))
    y, x = np.nonzero(highest & (full > level + 3 * noise))
    origin_y, origin_x = height // 2, width // 2
    distance = np.hypot(y - origin_y, x - origin_x)
    inside = (distance > inner) & (x >= origin_x) & ((x > origin_x) | (y > origin_y))
    inside &= (y > 0) & (y < height - 1) & (x < width - 1)
    peaks = []
    for row, col in zip(y[inside], x[inside], strict=True):
        dy = float(parabola_vertex(*full[row - 1 : row + 2, col]))
        dx = float(parabola_vertex(*full[row, col - 1 : col + 2]))
        seen = np.array([(row + dy - origin_y) * step_y, (col + dx - origin_x) * step_x])
        along_y, along_x = (
            calibration.to_detector @ seen
        ).tolist()  # real space: inverse, transposed
        vector = (along_y, along_x)
        contrast = float(full[row, col] - level[row, col])
        peaks.append(CepstrumPeak(vector, float(np.hypot(*vector)), unit, contrast))
    return sorted(peaks, key=lambda peak: -peak.height)
