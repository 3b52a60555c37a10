"""Pixel size, ellipse and center from positions that show a known crystal."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.calibrate.found import CalibrationFound
from jax4dstem.calibrate.tiles import error_of_mean
from jax4dstem.coordinates import Calibration, ellipse_matrix
from jax4dstem.dataset import Dataset
from jax4dstem.detector import IDEAL, Detector, repair_pixels
from jax4dstem.errors import InputError
from jax4dstem.fields import entry
from jax4dstem.lattice.cold_start import learn_lattice
from jax4dstem.lattice.evidence import CONVINCING
from jax4dstem.lattice.information import inverse_information
from jax4dstem.lattice.relation import CHANGES
from jax4dstem.lattice.sample import sample_scan
from jax4dstem.patterns.align import center_pattern
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns

LARGEST_ELLIPSE = 0.1  # beyond it the pattern shows another lattice than the crystal's
ALMOST = 1.5  # times larger: the ellipse of another way to lay the crystal, below which it is told
FEWEST = 4  # positions from which a scatter can be told


@dataclass(frozen=True)
class CrystalCalibration(CalibrationFound):
    r"""A calibration from positions that show a known crystal.

    Attributes:
        rival: Size of the ellipse that the next best way to lay the crystal on the patterns would mean; of an oblique
            lattice near a symmetric one it can be as good as the best.
        lattice: g1, g2 as rows (y, x) in px of the clearest pattern, ``(2, 2)``.
        undistorted: The crystal there, without the ellipse, the same shape.
        fitted: The crystal there, with it, the same shape.

    Example:
        >>> found = CrystalCalibration(
        ...     0.02, 1e-5, np.array([0.01, 0.0]), np.zeros(2), np.zeros((3, 3)), np.zeros(2), np.zeros(2), 9,
        ...     np.zeros((8, 8)), 0.012, np.eye(2), np.eye(2), np.eye(2),
        ... )
        >>> found.doubts[0][:50]
        'the crystal can also be laid with an ellipse of 1.'
    """

    rival: float = entry("", "1", "ellipse of the next best way to lay the crystal on the patterns")
    lattice: np.ndarray = entry("vector yx", "px", "g1, g2 (y, x) of the clearest pattern")
    undistorted: np.ndarray = entry("vector yx", "px", "the crystal there without the ellipse")
    fitted: np.ndarray = entry("vector yx", "px", "the crystal there with the ellipse")

    @property
    def doubts(self) -> tuple[str, ...]:
        """Another way to lay the crystal on the patterns that is nearly as good."""
        if self.rival >= ALMOST * float(np.hypot(*self.ellipse)):
            return ()
        return (
            f"the crystal can also be laid with an ellipse of {100 * self.rival:.1f} %: "
            "its lattice is nearly symmetric, take another zone",
        )


def calibrate_scan(
    scan: Dataset,
    beam_center: np.ndarray,
    radius: float,
    crystal: np.ndarray,
    *,
    detector: Detector | None = None,
    progress: str | None = None,
) -> CrystalCalibration:
    r"""Pixel size and ellipse from the lattices fitted to positions of a known, unstrained crystal.

    The rows of every fitted lattice N, in px, are those of the crystal C in 1/Å, in some basis U of the same lattice and some
    rotation R, drawn out by the ellipse L and divided by the pixel p:

    .. math:: N = U C R^{\mathsf T} L / p , \qquad (U C)^{-1} N = Q S , \qquad S = L / p

    by polar decomposition, four numbers for four. Of all U, and of C and its mirror image, the one with the smallest ellipse is
    taken. The answers are means over the positions. Their error bars are the larger of what counting noise gives and what
    the scatter between tiles of the scan tells, as strain, bending and thickness vary over larger distances than one position.

    Args:
        scan: Raw counts of positions that show the crystal; crop others away. Of its calibration only the aspect ratio of
            the pixels is used.
        beam_center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px.
        radius: Of the direct beam in px.
        crystal: g1, g2 of the crystal's zone as rows (y, x) in 1/Å, such as `zone_lattice` gives for a pixel of 1, or
            `cell_lattice`.
        detector: Noise, saturation and usable pixels; None for counted electrons in every pixel.
        progress: Label of the progress bar.

    Returns:
        Pixel size, ellipse and center with error bars.

    Raises:
        InputError: Too few positions show a lattice, or it is not that of the crystal.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
        >>> found = calibrate_scan(scan, truth.parameters.center, 4.2, 0.02 * truth.vectors)
        >>> round(found.pixel, 3)
        0.02

    Reference: ours.
    """
    aspect = scan.calibration.pixel_aspect
    square = Calibration(1.0, pixel_y_inv_angstrom=aspect)
    center = np.asarray(beam_center, np.float32)
    sample = sample_scan(scan)
    one = detector or IDEAL
    learned = learn_lattice(
        sample, sample.of(center), radius, detector=one, to_detector=square.to_detector
    )
    fits = map_patterns(
        learned.measure, scan, learned.setup, per_position=(center,), progress=progress
    )
    clear = (fits.score >= CONVINCING) & np.isfinite(fits.distortion).all(axis=(-1, -2))
    clear &= np.isfinite(fits.information).all(axis=(-1, -2)) & fits.converged
    if np.count_nonzero(clear) < FEWEST:
        raise InputError(
            f"{np.count_nonzero(clear)} of {clear.size} positions show a clear lattice; calibration needs {FEWEST}"
        )
    crystal = np.asarray(crystal, np.float64)
    laid = _lay_on(crystal, np.asarray(learned.setup.model.lattice, np.float64), fits, clear)
    errors = _errors(laid, clear, error_of_mean(fits.center, clear))
    mean = laid.values[clear].mean(axis=0)
    pixel, (a, b) = float(np.exp(mean[0])), mean[1:].tolist()
    best = np.unravel_index(np.argmax(np.where(clear, fits.score, -np.inf)), clear.shape)
    turned = (laid.basis @ laid.rotation[best]) / pixel
    to_px = square.to_detector
    found = np.asarray(learned.setup.model.distorted(jnp.asarray(fits.distortion[best])))
    return CrystalCalibration(
        pixel,
        pixel * float(np.sqrt(errors.covariance[0, 0])),
        np.array([a, b]),
        np.sqrt(np.diagonal(errors.covariance)[1:]),
        errors.covariance,
        fits.center[clear].mean(axis=0),
        errors.center,
        int(np.count_nonzero(clear)),
        _mean_pattern(scan, fits.center, clear, one),
        laid.rival,
        found,
        turned @ to_px,
        turned @ ellipse_matrix(a, b) @ to_px,
    )


class _Laid(NamedTuple):
    """The crystal laid on every position's pattern."""

    basis: np.ndarray  # U C
    values: np.ndarray  # (ln p, a, b), (scan_y, scan_x, 3)
    covariance: np.ndarray  # of them by counting, (scan_y, scan_x, 3, 3)
    rotation: np.ndarray  # Q, (scan_y, scan_x, 2, 2)
    rival: float


class _Errors(NamedTuple):
    covariance: np.ndarray
    center: np.ndarray


def _lay_on(crystal: np.ndarray, lattice: np.ndarray, fits: Any, clear: np.ndarray) -> _Laid:
    distortion = np.where(clear[..., None, None], fits.distortion, np.eye(2)).astype(np.float64)
    # Nobody says whether the crystal is seen from above or from below.
    bases = np.concatenate([CHANGES @ crystal, CHANGES @ crystal @ np.diag([-1.0, 1.0])])
    bases = bases[np.linalg.det(np.linalg.inv(bases) @ lattice) > 0]
    typical = lattice @ distortion[clear][:: max(1, np.count_nonzero(clear) // 50)]
    values, _ = _stretch_of(np.linalg.inv(bases)[:, None] @ typical)
    sizes = np.median(np.hypot(values[..., 1], values[..., 2]), axis=1)
    order = np.argsort(sizes, kind="stable")
    best = order[0]
    if not sizes[best] < LARGEST_ELLIPSE:
        raise InputError(
            f"the patterns' lattice is not that of the crystal: it would be distorted by {100 * sizes[best]:.0f} %; "
            "look at zone and region"
        )
    means = np.median(values, axis=1)
    others = [n for n in order if np.abs(means[n] - means[best]).max() > 1e-3]  # not its symmetry
    rival = float(sizes[others[0]]) if others else float("inf")
    inverse = np.linalg.inv(bases[best])
    own, rotation = _stretch_of(inverse @ lattice @ distortion)
    slopes = [_slope(inverse @ lattice, distortion, n) for n in range(4)]
    jacobian = np.stack(slopes, axis=-1)
    counting = inverse_information(fits.information)[..., 2:, 2:]
    covariance = jacobian @ counting @ np.swapaxes(jacobian, -1, -2)
    return _Laid(bases[best], own, covariance, rotation, rival)


def _slope(before: np.ndarray, distortion: np.ndarray, n: int) -> np.ndarray:
    """Derivative of (ln p, a, b) by the n-th of (A_00, A_10, A_01, A_11), by central differences."""
    step = np.zeros((2, 2))
    step[n % 2, n // 2] = 1e-5
    ahead, behind = (_stretch_of(before @ (distortion + sign * step))[0] for sign in (1, -1))
    return (ahead - behind) / 2e-5


def _stretch_of(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ln p, a, b) of the symmetric part S = L / p of matrices ``(..., 2, 2)``, and their rotation Q."""
    u, singular, vt = np.linalg.svd(matrices)
    logarithm = np.swapaxes(vt, -1, -2) @ (np.log(singular)[..., None] * vt)
    scale = -(logarithm[..., 0, 0] + logarithm[..., 1, 1]) / 2
    a = (logarithm[..., 1, 1] - logarithm[..., 0, 0]) / 2
    return np.stack([scale, a, logarithm[..., 0, 1]], axis=-1), u @ vt


def _errors(laid: _Laid, clear: np.ndarray, center: np.ndarray) -> _Errors:
    """Covariance of the means: by counting, stretched to the scatter between tiles where that is larger."""
    counting = laid.covariance[clear].sum(axis=0) / np.count_nonzero(clear) ** 2
    std = np.sqrt(np.diagonal(counting))
    scatter = error_of_mean(laid.values, clear)
    stretch = np.maximum(scatter / std, 1.0)
    return _Errors(counting * np.outer(stretch, stretch), center)


def _mean_pattern(
    scan: Dataset, center: np.ndarray, clear: np.ndarray, detector: Detector
) -> np.ndarray:
    if detector.mask is not None:
        scan = scan.map(repair_pixels, np.logical_not(detector.mask))
    centered = scan.map(center_pattern, per_position=(np.nan_to_num(center),))
    return np.asarray(reduce_patterns(Mean(), centered, weights=clear))
