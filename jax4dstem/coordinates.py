"""Conventions: origin, axes, units and signs. No other module knows them.

Arrays have axes ``(scan_y, scan_x, det_y, det_x)``; vectors are stored ``(y, x)``; pixel centers lie
at integer coordinates; a pattern center is a stored fractional ``(y, x)``, never an assumed N/2.
Angles are in radians, counter-clockwise on the screen, where y points down.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclass(frozen=True)
class Calibration:
    """Physical scales of a dataset; ``None`` means not calibrated.

    Attributes:
        pixel_inv_angstrom: Detector pixel in Å⁻¹, with k = sin α / λ (no 2π).
        scan_step_nm: Distance between scan positions in nm.
        energy_kv: Beam energy in kV.
        scan_rotation: Rotation from scan to detector axes in radians.
        scan_flip: True when the detector y axis is mirrored against the scan.

    Example:
        >>> Calibration(pixel_inv_angstrom=0.016).binned(2).pixel_inv_angstrom
        0.032
    """

    pixel_inv_angstrom: float | None = None
    scan_step_nm: float | None = None
    energy_kv: float | None = None
    scan_rotation: float = 0.0
    scan_flip: bool = False

    def binned(self, factor: int) -> "Calibration":
        """Return the calibration after summing ``factor`` x ``factor`` detector pixels."""
        if self.pixel_inv_angstrom is None:
            return self
        return replace(self, pixel_inv_angstrom=self.pixel_inv_angstrom * factor)

    @property
    def reciprocal_units(self) -> tuple[float, str]:
        """Factor from pixels to the reciprocal unit, and the unit's name."""
        if self.pixel_inv_angstrom is None:
            return 1.0, "px"
        return self.pixel_inv_angstrom, "1/Å"

    @property
    def scan_units(self) -> tuple[float, str]:
        """Factor from scan positions to the scan unit, and the unit's name."""
        if self.scan_step_nm is None:
            return 1.0, "positions"
        return self.scan_step_nm, "nm"

    def quefrency_step(self, size: int) -> tuple[float, str]:
        """Quefrency of one cepstrum pixel of a transform over ``size`` detector pixels.

        A pattern of ``size`` pixels of width Δk has the discrete Fourier conjugate spacing

        .. math:: \\Delta r = 1 / (N \\, \\Delta k).

        Args:
            size: Number of detector pixels N along the axis.

        Returns:
            The spacing in Å, or 1 with the unit "px" when the detector is not calibrated.
        """
        if self.pixel_inv_angstrom is None:
            return 1.0, "px"
        return 1.0 / (size * self.pixel_inv_angstrom), "Å"


def detector_grid(
    shape: tuple[int, int],
) -> tuple[Float[Array, "det_y 1"], Float[Array, "1 det_x"]]:
    """Coordinates of the pixel centers, as a column of y and a row of x.

    Example:
        >>> y, x = detector_grid((2, 3))
        >>> (y + x).shape
        (2, 3)
    """
    return jnp.arange(shape[0], dtype=float)[:, None], jnp.arange(shape[1], dtype=float)[None, :]


def radius_from(center: Float[Array, "2"], shape: tuple[int, int]) -> Float[Array, "det_y det_x"]:
    """Distance of every pixel from ``center`` (y, x), in pixels; its gradient is finite everywhere."""
    y, x = detector_grid(shape)
    squared = (y - center[0]) ** 2 + (x - center[1]) ** 2
    at_center = squared == 0  # the derivative of sqrt is infinite there
    return jnp.where(at_center, 0.0, jnp.sqrt(jnp.where(at_center, 1.0, squared)))
