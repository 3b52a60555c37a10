"""Exit-wave power cepstrum (EWPC): what distances are in the crystal, seen in one pattern."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jax4dstem.coordinates import Calibration, radius_from
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar


def ewpc(
    pattern: Pattern, center: Point, window: Scalar, offset: Scalar
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
    half plane ``x >= 0`` holds everything (`unfold_cepstrum` gives the other half).

    Args:
        pattern: ``(det_y, det_x)`` counts.
        center: ``(y, x)`` of the direct beam, px; the window is centered there.
        window: Standard deviation σ of the Gaussian window, px.
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
    logarithm = jnp.log(pattern / jnp.mean(pattern.astype(float)) + offset)
    weight = jnp.exp(-0.5 * (radius_from(center, pattern.shape) / window) ** 2)
    mean = jnp.sum(weight * logarithm) / jnp.sum(weight)
    return jnp.fft.fftshift(jnp.abs(jnp.fft.rfft2((logarithm - mean) * weight)), axes=0)


def unfold_cepstrum(half: Float[Array, "... det_y half_x"], width: int) -> Float[Array, "..."]:
    """Whole cepstrum from its right half plane, zero quefrency at ``[det_y // 2, width // 2]``.

    Args:
        half: ``(..., det_y, width // 2 + 1)`` from `ewpc`.
        width: Number of columns of the pattern.

    Returns:
        ``(..., det_y, width)``.
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
    """
    y, x, _ = quefrency_axes(shape, Calibration())
    radius = np.hypot(y[:, None] * min(shape) / shape[0], x[None, :] * min(shape) / shape[1])
    once = (x[None, :] > 0) | (y[:, None] > 0)
    return (radius >= inner) & (radius <= outer) & once


@dataclass(frozen=True)
class CepstrumPeak:
    """One local maximum of a cepstrum: quefrency vector (y, x), its length, unit and height."""

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
        calibration: For lengths in Å.
        inner: Radius of the region around the origin that is ignored, px of the transform.

    Returns:
        Peaks that stand three robust standard deviations out of the surrounding cepstrum.
    """
    full = np.asarray(unfold_cepstrum(jnp.asarray(half), shape[1]), np.float64)
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
        dy = _parabola(*full[row - 1 : row + 2, col])
        dx = _parabola(*full[row, col - 1 : col + 2])
        vector = ((row + dy - origin_y) * step_y, (col + dx - origin_x) * step_x)
        contrast = float(full[row, col] - level[row, col])
        peaks.append(CepstrumPeak(vector, float(np.hypot(*vector)), unit, contrast))
    return sorted(peaks, key=lambda peak: -peak.height)


def _parabola(left: float, middle: float, right: float) -> float:
    curvature = left - 2 * middle + right
    return 0.0 if curvature >= 0 else 0.5 * (left - right) / curvature
