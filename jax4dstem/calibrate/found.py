"""What every calibration finds, by whatever it was told."""

from dataclasses import dataclass, replace

import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.fields import DETECTOR, Result, entry


@dataclass(frozen=True)
class CalibrationFound(Result):
    r"""Pixel size, ellipse and center, from positions that show something known.

    Attributes:
        pixel: Of the detector in 1/Å, along x.
        pixel_std: Its standard deviation.
        ellipse: (a, b) as of `Calibration`, ``(2,)``.
        ellipse_std: Of both, ``(2,)``.
        covariance: Of (ln pixel, a, b), ``(3, 3)``.
        center: Mean of the direct beam, (y, x) in px, ``(2,)``.
        center_std: Standard deviation of that mean, along y and x, ``(2,)``.
        positions: How many were used.
        mean_pattern: Of these positions, their direct beams laid on its middle, ``(det_y, det_x)``.

    Example:
        >>> found = CalibrationFound(
        ...     0.02, 1e-5, np.array([0.01, 0.0]), np.zeros(2), np.zeros((3, 3)), np.zeros(2), np.zeros(2), 9,
        ...     np.zeros((8, 8)),
        ... )
        >>> found.applied_to(Calibration(pixel_y_inv_angstrom=0.03, pixel_inv_angstrom=0.01)).pixel_y_inv_angstrom
        0.06
    """

    pixel: float = entry("", "1/Å", "detector pixel along x")
    pixel_std: float = entry("", "1/Å", "standard deviation of the pixel")
    ellipse: np.ndarray = entry("ellipse", "1", "a, b of the projector lenses' distortion")
    ellipse_std: np.ndarray = entry("ellipse", "1", "standard deviation of a, b")
    covariance: np.ndarray = entry("parameter other_parameter", "1", "of (ln pixel, a, b)")
    center: np.ndarray = entry("yx", "px", "mean of the direct beam (y, x)")
    center_std: np.ndarray = entry("yx", "px", "standard deviation of the mean")
    positions: int = entry("", "positions", "that were used")
    mean_pattern: np.ndarray = entry(DETECTOR, "electrons", "mean of the centered patterns")

    @property
    def doubts(self) -> tuple[str, ...]:
        """What may be wrong, a line each."""
        return ()

    def applied_to(self, calibration: Calibration) -> Calibration:
        """A calibration with the pixel size and the ellipse found; the pixel's aspect ratio stays as it was."""
        aspect = calibration.pixel_aspect
        a, b = self.ellipse.tolist()
        return replace(
            calibration,
            pixel_inv_angstrom=self.pixel,
            pixel_y_inv_angstrom=None if aspect == 1 else aspect * self.pixel,
            ellipse=(a, b),
        )
