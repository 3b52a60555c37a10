"""Where is the direct beam: per pattern, over the scan (descan), and shifting patterns onto it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from scipy import ndimage, optimize

from jax4dstem.coordinates import detector_grid
from jax4dstem.dataset import BinDetector
from jax4dstem.errors import InputError
from jax4dstem.patterns.detectors import center_of_mass, disk_mask
from jax4dstem.smoothing import gaussian_weights
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar

WINDOW = 1.5  # radii of the direct beam, and a pixel: of the window that its centroid is taken in
LOST = 5.0  # robust standard deviations from the median of the neighborhood, beyond which a center is another disk's
NEIGHBORS = 5  # positions along each side of that neighborhood
# Structure inside a beam (rings, a hole) makes its wider region 2 to 15 times as clear; of plain disks, also ones that touch, it is never clearer.
CLEARER = 1.1


class DirectBeam(NamedTuple):
    """Where the direct beam is found in a mean pattern, and its radius (half maximum), in px.

    Attributes:
        center: ``(y, x)`` in px.
        radius: Half width at half maximum in px.
    """

    center: np.ndarray
    radius: float


def find_direct_beam(mean: np.ndarray, blur: float = 1.0) -> DirectBeam:
    r"""Find the direct beam as the brightest compact region of a mean (or single) pattern.

    The center is the center of mass of the connected region above half of the blurred maximum, holes included;
    its radius is that of a disk of equal area. A beam with structure (the rings of a bullseye) falls into regions: the blur
    is doubled for as long as the wider region stands out more clearly from its surroundings, by

    .. math:: C = A (\bar I - \bar I_\mathrm{ring})^2 ,

    what a disk of its area A explains of the squared counts.

    Args:
        mean: ``(det_y, det_x)``, bad pixels repaired.
        blur: Width of the Gaussian that suppresses noise before the maximum is taken, in px.

    Returns:
        Center ``(y, x)`` and radius in px.

    Raises:
        InputError: The pattern has no intensity.

    Example:
        >>> y, x = np.indices((33, 33))
        >>> beam = find_direct_beam(1.0 * (np.hypot(y - 15, x - 18) < 4.2))
        >>> beam.center.round(1).tolist(), round(beam.radius)
        ([15.0, 18.0], 4)

    Reference: ours.
    """
    mean = np.asarray(mean, np.float64)
    if not ndimage.gaussian_filter(mean, blur).max() > 0:
        raise InputError("the mean pattern is empty: there is no direct beam to find")
    beam = _brightest_region(mean, blur)
    while blur < beam.radius:
        blur = 2 * blur
        wider = _brightest_region(mean, blur)
        if _contrast(mean, wider) < CLEARER * _contrast(mean, beam):
            break
        beam = wider
    return beam


def _brightest_region(mean: np.ndarray, blur: float) -> DirectBeam:
    """The connected region above half of the blurred maximum, holes included."""
    smooth = ndimage.gaussian_filter(mean, blur)
    regions, _ = ndimage.label(smooth >= 0.5 * smooth.max())
    region = ndimage.binary_fill_holes(regions == regions.flat[np.argmax(smooth)])
    center = np.array(ndimage.center_of_mass(mean, region))
    return DirectBeam(center, float(np.sqrt(np.sum(region) / np.pi)))


def _contrast(mean: np.ndarray, beam: DirectBeam) -> float:
    """What a disk explains of the squared counts, above the mean of a ring around it of about its area."""
    y, x = np.indices(mean.shape)
    distance = np.hypot(y - beam.center[0], x - beam.center[1])
    inside = distance <= beam.radius
    outer = np.hypot(beam.radius + 1, beam.radius)
    ring = (distance > beam.radius + 1) & (distance <= outer)
    around = mean[ring].mean() if ring.any() else 0.0
    return float(inside.sum() * (mean[inside].mean() - around) ** 2) if inside.any() else 0.0


def beam_candidate(
    pattern: Pattern, expected: Point, radius: Scalar, search: Scalar
) -> Float[Array, "2"]:
    """Maximum of the blurred pattern within ``search`` px of the expected center, to two pixels.

    Args:
        pattern: ``(det_y, det_x)``.
        expected: ``(y, x)`` in px, from the mean pattern.
        radius: Radius of the direct beam in px; the blur has this width.
        search: Radius of the region that is searched in px.

    Returns:
        ``(y, x)`` in px, a corner where four pixels meet.

    Example:
        >>> y, x = detector_grid((33, 33))
        >>> disk = 1.0 * (jnp.hypot(y - 15.0, x - 18.0) < 3.5)
        >>> beam_candidate(disk, jnp.array([16.0, 16.0]), 3.5, 6.0).tolist()
        [14.5, 18.5]
    """
    # Squares of four pixels cost an eighth; the iteration that follows needs no better start.
    binned = BinDetector(2)(pattern)
    y, x = (2.0 * grid + 0.5 for grid in detector_grid(binned.shape))
    blurred = gaussian_weights(y[:, 0], radius) @ binned @ gaussian_weights(x[0], radius)
    inside = (y - expected[0]) ** 2 + (x - expected[1]) ** 2 <= jnp.maximum(search, 2.0) ** 2
    row, column = jnp.unravel_index(jnp.argmax(jnp.where(inside, blurred, -jnp.inf)), binned.shape)
    return jnp.stack([y[row, 0], x[0, column]])


@dataclass(frozen=True)
class AlignDirectBeam:
    r"""Pattern function: sub-pixel center of the direct beam, by iterated center of mass.

    .. math:: c_{n+1} = \frac{\sum_r r\, I(r)\, w(r - c_n)}{\sum_r I(r)\, w(r - c_n)}

    with the soft disk w of `disk_mask`. The window follows the beam, so that what lies outside it
    (Bragg disks) has no influence and a flat background none at the fixed point. The iteration
    count is fixed; the result is differentiable in the pattern and the start.

    Attributes:
        iterations: Number of steps.
        reach: Pixels from the start that are looked at, in y and in x: no fewer than the window's radius and the way that it
            may move, for speed. None looks at the whole pattern.

    Example:
        >>> import jax.numpy as jnp
        >>> beam = disk_mask((32, 32), jnp.array([15.3, 16.8]), 3.0)
        >>> center = AlignDirectBeam()(beam, jnp.array([15.0, 16.0]), 5.0)
        >>> bool(jnp.allclose(center, jnp.array([15.3, 16.8]), atol=0.02))
        True

    Reference: ours.
    """

    iterations: int = 10
    reach: int | None = None

    def __call__(self, pattern: Pattern, start: Point, radius: Scalar) -> Float[Array, "2"]:
        """Center ``(y, x)`` in px from ``start``, in a window of radius ``radius`` px."""
        start = jnp.asarray(start, float)
        corner, near = self._near(pattern, start)

        def step(center: Array, _: None) -> tuple[Array, None]:
            return center_of_mass(near * disk_mask(near.shape, center, radius)), None

        return corner + jax.lax.scan(step, start - corner, None, length=self.iterations)[0]

    def _near(self, pattern: Pattern, start: Point) -> tuple[Float[Array, "2"], Array]:
        """What is looked at, and its corner (y, x)."""
        if self.reach is None:
            return jnp.zeros(2), pattern
        size = np.minimum(2 * self.reach + 1, pattern.shape)
        most = np.array(pattern.shape) - size
        corner = jnp.clip(jnp.round(start).astype(int) - self.reach, 0, most)
        return corner.astype(float), jax.lax.dynamic_slice(pattern, corner, size.tolist())


@dataclass(frozen=True)
class LocateDirectBeam:
    """Pattern function: `align_direct_beam`, which looks no farther than ``reach`` from what it finds first.

    Attributes:
        reach: Pixels, as in `AlignDirectBeam`.

    Example:
        >>> y, x = detector_grid((33, 33))
        >>> disk = 1.0 * (jnp.hypot(y - 15.0, x - 18.0) < 3.5)
        >>> LocateDirectBeam(reach=14)(disk, jnp.array([16.0, 16.0]), 3.5, 6.0).round(2).tolist()
        [15.0, 18.0]

    Reference: ours.
    """

    reach: int | None = None

    @classmethod
    def of_radius(cls, radius: float) -> "LocateDirectBeam":
        """One that looks twice as far as the window reaches; a power of two, so that beams of about one size share what is compiled."""
        return cls(2 ** int(np.ceil(np.log2(2 * (WINDOW * radius + 1)))))

    def __call__(
        self, pattern: Pattern, expected: Point, radius: Scalar, search: Scalar
    ) -> Float[Array, "2"]:
        """Center ``(y, x)`` in px; arguments as of `align_direct_beam`."""
        start = beam_candidate(pattern, expected, radius, search)
        return AlignDirectBeam(reach=self.reach)(pattern, start, WINDOW * radius + 1.0)


def align_direct_beam(
    pattern: Pattern, expected: Point, radius: Scalar, search: Scalar
) -> Float[Array, "2"]:
    """Center of the direct beam of one pattern, with no start but the scan's mean beam.

    A coarse search (`beam_candidate`) followed by the sub-pixel iteration (`AlignDirectBeam`) in a
    window of 1.5 beam radii plus one pixel.

    Args:
        pattern: ``(det_y, det_x)`` counts.
        expected: ``(y, x)`` of the direct beam in the mean pattern, px.
        radius: Radius of the direct beam, px.
        search: How far from ``expected`` the beam may be, px.

    Returns:
        ``(y, x)`` in px; NaN for an empty pattern.

    Example:
        >>> y, x = detector_grid((33, 33))
        >>> disk = 1.0 * (jnp.hypot(y - 15.0, x - 18.0) < 3.5)
        >>> align_direct_beam(disk, jnp.array([16.0, 16.0]), 3.5, 6.0).round(2).tolist()
        [15.0, 18.0]
    """
    return LocateDirectBeam()(pattern, expected, radius, search)


class DescanFit(NamedTuple):
    """Smooth descan surface, the centers to use, and which measured centers were outliers.

    Attributes:
        surface: ``(scan_y, scan_x, 2)``, (y, x) in px.
        center: The same shape: what to use.
        outlier: Boolean ``(scan_y, scan_x)``.
    """

    surface: np.ndarray
    center: np.ndarray
    outlier: np.ndarray


def fit_descan(
    measured: np.ndarray, *, order: int = 2, noise: np.ndarray | float = 0.0
) -> DescanFit:
    r"""Fit a low-order polynomial to the measured centers and combine the two.

    The surface is a robust least-squares fit (soft L1) of all monomials up to ``order`` in the scan
    coordinates. With shot noise of variance σ² in a measured center and residuals of variance s²
    (robust) about the surface, the combined center is

    .. math:: c = \mathrm{surface} + \max(0, 1 - σ^2 / s^2)\,(\mathrm{measured} - \mathrm{surface}),

    the empirical-Bayes estimate: measured centers where they are precise, the surface where shot
    noise dominates. Outliers (5 robust standard deviations and half a pixel off the median of their
    neighborhood) and missing centers (NaN) take the neighborhood's.

    Args:
        measured: ``(scan_y, scan_x, 2)`` in px.
        order: Degree of the surface: 1 is a plane.
        noise: Standard deviation of a measured center from shot noise, scalar or per position, px.

    Returns:
        Surface and center ``(scan_y, scan_x, 2)``, outlier ``(scan_y, scan_x)``.

    Raises:
        InputError: No center could be measured.

    Example:
        >>> y, x = np.indices((6, 8))
        >>> measured = np.stack([30 + 0.1 * y, 31 - 0.2 * x], axis=-1)
        >>> measured[2, 3] = np.nan  # no beam was found
        >>> fit = fit_descan(measured, order=1)
        >>> fit.center[2, 3].round(2).tolist(), int(fit.outlier.sum())
        ([30.2, 30.4], 1)

    Reference: ours; for weighing by empirical Bayes, Efron and Morris, J. Am. Stat. Assoc. 68, 117 (1973).
    """
    measured = np.asarray(measured, np.float64)
    known = np.asarray(np.isfinite(measured).all(-1))
    if not known.any():
        raise InputError("no direct beam could be located in any pattern")
    basis = _monomials(measured.shape[:2], order)
    surface = np.stack(
        [basis @ _robust_fit(basis[known], measured[known][:, axis]) for axis in range(2)], axis=-1
    )
    residual = np.where(known[..., None], measured - surface, 0.0)
    # A surface of low order may be pixels off in a corner; a wrong beam is alone among its neighbors.
    around = ndimage.median_filter(residual, size=(NEIGHBORS, NEIGHBORS, 1), mode="nearest")
    distance = np.linalg.norm(residual - around, axis=-1)
    outlier = ~known | (distance > np.maximum(0.5, LOST * 1.4826 * np.median(distance[known])))
    spread = 1.4826 * np.median(np.abs(residual[known]), axis=0)
    variance = np.maximum(spread**2, np.finfo(float).tiny)
    trust = np.clip(1 - np.asarray(noise)[..., None] ** 2 / variance, 0, 1)
    center = surface + trust * np.where(outlier[..., None], around, residual)
    return DescanFit(surface, center, outlier)


def _monomials(scan_shape: tuple[int, int], order: int) -> np.ndarray:
    """All monomials of total degree up to ``order`` (fewer on a short axis), ``(y, x, terms)``."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in scan_shape), indexing="ij")
    height, width = scan_shape
    return np.stack(
        [
            y**i * x**j
            for i in range(min(order, height - 1) + 1)
            for j in range(min(order - i, width - 1) + 1)
        ],
        axis=-1,
    )


def _robust_fit(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    start = np.linalg.lstsq(basis, values, rcond=None)[0]
    scale = max(1.4826 * np.median(np.abs(values - basis @ start)), 1e-6)
    return optimize.least_squares(
        lambda coefficients: basis @ coefficients - values,
        start,
        jac=lambda _: basis,
        loss="soft_l1",
        f_scale=scale,
    ).x


def shift_pattern(pattern: Pattern, shift: Point) -> Float[Array, "det_y det_x"]:
    """Move a pattern by a sub-pixel amount with bilinear interpolation; zeros enter at the rim.

    Local and positive: it cannot ring, unlike `fourier_shift`, whose ripples around the direct beam
    dominate the weak parts of a diffraction pattern. For features and pictures, not for fits.

    Args:
        pattern: ``(det_y, det_x)``.
        shift: ``(y, x)`` in px; positive moves the content down and to the right.

    Returns:
        The moved pattern.

    Example:
        >>> import jax.numpy as jnp
        >>> spot = jnp.zeros((4, 4)).at[1, 1].set(4.0)
        >>> shift_pattern(spot, jnp.array([1.0, 0.5]))[2].tolist()
        [0.0, 2.0, 2.0, 0.0]
    """
    return _shift_along(_shift_along(pattern.astype(float), shift[0], 0), shift[1], 1)


def _shift_along(pattern: Array, shift: Array, axis: int) -> Array:
    """Whole rows (columns) are copied, and of each two neighbors a mean is taken: five times as fast as a lookup of every pixel."""
    size = pattern.shape[axis]
    whole = jnp.floor(shift)
    part = shift - whole
    # One row more than there are; a slice that would begin or end outside is moved inside, where all is dark.
    dark = jnp.zeros([size + 1 if n == axis else length for n, length in enumerate(pattern.shape)])
    wide = jnp.concatenate([dark, pattern, dark], axis)
    rows = jax.lax.dynamic_slice_in_dim(wide, size - whole.astype(int), size + 1, axis)
    later = jax.lax.slice_in_dim(rows, 1, None, axis=axis)
    return (1 - part) * later + part * jax.lax.slice_in_dim(rows, 0, size, axis=axis)


def sample_pattern(
    pattern: Pattern, y: Float[Array, "*points"], x: Float[Array, "*points"]
) -> Float[Array, "*points"]:
    """Bilinear interpolation of the pattern at fractional positions (px); 0 outside.

    Args:
        pattern: ``(det_y, det_x)``.
        y: Any shape, px.
        x: The same shape.

    Returns:
        The values, of the shape of y.

    Example:
        >>> pattern = jnp.array([[0.0, 2.0], [4.0, 6.0]])
        >>> sample_pattern(pattern, jnp.array([0.5]), jnp.array([0.25])).tolist()
        [2.5]
    """
    return map_coordinates(pattern.astype(float), [y, x], order=1, mode="constant")


def fourier_shift(pattern: Pattern, shift: Point) -> Float[Array, "det_y det_x"]:
    r"""Move a periodic pattern by :math:`\mathcal F^{-1}[e^{-2\pi i k \cdot s} \mathcal F I]`.

    Exactly invertible for odd sizes (at even sizes the Nyquist row and column lose their phase);
    sharp edges ring.

    Args:
        pattern: ``(det_y, det_x)``.
        shift: ``(y, x)`` in px.

    Returns:
        ``(det_y, det_x)``.

    Example:
        >>> pattern = jnp.zeros((3, 5)).at[0, 1].set(1.0)
        >>> bool(jnp.allclose(fourier_shift(pattern, jnp.array([1.0, 2.0])), jnp.zeros((3, 5)).at[1, 3].set(1.0), atol=1e-6))
        True
    """
    height, width = pattern.shape
    phase = shift[0] * jnp.fft.fftfreq(height)[:, None] + shift[1] * jnp.fft.rfftfreq(width)[None]
    spectrum = jnp.fft.rfft2(pattern.astype(float)) * jnp.exp(-2j * jnp.pi * phase)
    return jnp.fft.irfft2(spectrum, s=pattern.shape)


def center_pattern(pattern: Pattern, center: Point) -> Float[Array, "det_y det_x"]:
    """Move the pattern so that ``center`` falls on the middle pixel ``(det_y // 2, det_x // 2)``.

    Args:
        pattern: ``(det_y, det_x)`` counts.
        center: ``(y, x)`` of the direct beam in px.

    Returns:
        ``(det_y, det_x)``, as `shift_pattern` moves it.

    Example:
        >>> pattern = jnp.zeros((5, 5)).at[1, 3].set(1.0)
        >>> center_pattern(pattern, jnp.array([1.0, 3.0]))[2].round(3).tolist()
        [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    return shift_pattern(pattern, middle(pattern.shape) - center)


def middle(shape: tuple[int, ...]) -> Float[Array, "2"]:
    """The pixel onto which `center_pattern` moves the direct beam, ``(y, x)``.

    Args:
        shape: ``(det_y, det_x)``.

    Returns:
        ``(y, x)`` in px.

    Example:
        >>> middle((4, 5)).tolist()
        [2.0, 2.0]
    """
    return jnp.array([shape[0] // 2, shape[1] // 2], dtype=float)
