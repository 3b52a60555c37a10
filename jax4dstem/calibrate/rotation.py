"""Rotation between scan and detector, from the curl of the center of mass."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.calibrate.tiles import tile_numbers
from jax4dstem.fields import Result, entry

CLEAR = 5.0  # standard deviations from which on there is a signal: 1e-6 by chance
PREFERRED = 2.0  # times smaller: the curl of one handedness against the other's


@dataclass(frozen=True)
class ScanRotation(Result):
    """Rotation from scan to detector axes, and whether there is a signal to tell it.

    Attributes:
        angle: In radians, in (−π/2, π/2]: modulo half a turn, as a field of opposite sign has no curl either.
        std: Its standard deviation, from the scatter between tiles of the scan.
        flip: Whether the detector's y axis is mirrored against the scan.
        significance: Of the signal, in standard deviations.
        found: Whether it can be relied on.
        reason: Why not; empty where it can.
    """

    angle: float = entry("", "rad", "rotation from scan to detector, modulo half a turn")
    std: float = entry("", "rad", "standard deviation of the rotation")
    flip: bool = entry("", "", "the detector's y axis is mirrored against the scan's")
    significance: float = entry("", "standard deviations", "of the signal")
    found: bool = entry("", "", "whether the rotation can be relied on")
    reason: str = entry("", "", "why it cannot be relied on")


def find_scan_rotation(
    center_of_mass: np.ndarray, step: tuple[float, float] = (1.0, 1.0)
) -> ScanRotation:
    r"""The rotation that frees the center of mass of curl.

    Deflection by a potential is its gradient, :math:`v = \nabla V` in scan axes, which has no curl. With curl C and
    divergence D of the field in detector axes, the curl of the field turned back by ω is :math:`C \cos\omega - D \sin\omega`;
    its mean square is smallest where

    .. math:: 2 \omega = \arg \sum (D + i C)^2 .

    A mirrored detector is told by whether the field or its mirror image can be freed of more curl.

    Args:
        center_of_mass: (y, x) relative to the direct beam, ``(scan_y, scan_x, 2)``, in detector axes, descan removed; NaN
            where there is none.
        step: Distances between scan rows and columns, in one unit.

    Returns:
        Angle, error bar, and whether there is a signal.

    Example:
        >>> y, x = np.mgrid[:32, :32] / 5
        >>> field = np.stack([np.cos(y) * np.sin(x), np.sin(y) * np.cos(x)], axis=-1)  # a gradient
        >>> c, s = np.cos(0.3), np.sin(0.3)
        >>> found = find_scan_rotation(field @ np.array([[c, s], [-s, c]]))
        >>> round(found.angle, 2), found.found
        (0.3, True)

    Reference: Savitzky et al., Microsc. Microanal. 27, 712 (2021).
    """
    field = np.asarray(center_of_mass, np.float64)
    if min(field.shape[:2]) < 4:
        return ScanRotation(0.0, np.pi, False, 0.0, False, "the scan is too small for a curl")
    plain = _moment(field, step)
    mirrored = _moment(field * [-1.0, 1.0], step)
    flip = mirrored.share > plain.share
    best, other = (mirrored, plain) if flip else (plain, mirrored)
    # R(ω) of a mirrored field: v = R(ω) M v_scan, and M R(ω) M = R(−ω).
    angle = -best.angle if flip else best.angle
    reason = ""
    if best.significance < CLEAR:
        reason = "the center of mass shows no signal above noise that a rotation could free of curl"
    elif (1 - other.share) < PREFERRED * (1 - best.share):
        reason = "the center of mass has as much curl with a mirrored detector as without"
    return ScanRotation(angle, best.std, bool(flip), best.significance, not reason, reason)


@dataclass(frozen=True)
class _Moment:
    """Sum of (D + iC)²: its angle, error, and share of the sum of the absolute squares."""

    angle: float
    std: float
    significance: float
    share: float


def _moment(field: np.ndarray, step: tuple[float, float]) -> _Moment:
    by_y, by_x = (np.gradient(field, distance, axis=axis) for axis, distance in enumerate(step))
    divergence = by_y[..., 0] + by_x[..., 1]
    curl = by_y[..., 1] - by_x[..., 0]
    square = (divergence + 1j * curl) ** 2
    known = np.isfinite(square)
    tiles = tile_numbers((field.shape[0], field.shape[1]))[known]
    square = square[known]
    if not square.size or not np.abs(square).sum():
        return _Moment(0.0, np.pi, 0.0, 0.0)
    sums = np.array([square[tiles == tile].sum() for tile in np.unique(tiles)])
    total = sums.sum()
    direction = total / abs(total) if total else 1.0
    along, across = np.real(sums / direction), np.imag(sums / direction)
    count = len(sums)
    noise = np.sqrt(count / max(count - 1, 1) * np.sum((along - along.mean()) ** 2))
    aside = np.sqrt(count / max(count - 1, 1) * np.sum(across**2))
    share = float(abs(total) / np.abs(square).sum())
    # Without a signal the terms point anywhere: the sum of n of them is the root of n long.
    chance = np.sqrt(np.sum(np.abs(square) ** 2))
    significance = float(abs(total) / max(noise, chance))
    std = float(min(aside / (2 * abs(total)), np.pi)) if total else np.pi
    return _Moment(float(np.angle(total) / 2), std, significance, share)
