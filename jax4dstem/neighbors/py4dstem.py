"""A calibration in the terms of py4DSTEM, whose x runs along rows."""

from math import atan2, degrees, isclose, pi
from typing import Any

import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.io.hdf5_scales import DETECTOR_TO_SCAN


def to_py4dstem_calibration(calibration: Calibration) -> dict[str, Any]:
    r"""Entries of py4DSTEM's ``Calibration`` that make of detector vectors what ours makes of them.

    It takes vectors (x along rows) from the detector to scan axes by a symmetric matrix that shrinks along the ellipse's
    semiaxis a, a scale, an exchange of axes (``QR_flip``), and a rotation by ``QR_rotation`` from rows towards columns. Ours is
    one matrix N on row vectors (y, x), and so is of this form by polar decomposition,

    .. math:: N = S \, O, \qquad S = s \, (I - (1 - b / a) u u^{\mathsf T}), \qquad u = (\cos\theta, \sin\theta) .

    Pixels of unlike height and width are part of S. One scan step is all that py4DSTEM knows: that along x.

    Args:
        calibration: Ours.

    Returns:
        ``QR_rotation`` in radians, ``QR_rotation_degrees``, ``QR_flip``, ``QR_sense`` (ours: which way that turns), and where they are known ``a``, ``b``, ``theta``, ``Q_pixel_size``, ``Q_pixel_units``,
        ``R_pixel_size`` and ``R_pixel_units``.

    Example:
        >>> theirs = to_py4dstem_calibration(Calibration(pixel_inv_angstrom=0.02, scan_rotation=0.3))
        >>> theirs["Q_pixel_size"], round(theirs["QR_rotation"], 6), theirs["QR_flip"]
        (0.02, -0.3, False)

    Reference: ours; py4DSTEM 0.14.18 is what it is tested with.
    """
    left, factors, right = np.linalg.svd(calibration.to_scan_axes)  # the larger factor first
    turn = left @ right
    flip = bool(np.linalg.det(turn) < 0)
    if flip:
        turn = turn[::-1]
    rotation = atan2(turn[0, 1], turn[0, 0])
    found: dict[str, Any] = {
        "QR_rotation": rotation,
        "QR_rotation_degrees": degrees(rotation),
        "QR_flip": flip,
        "QR_sense": DETECTOR_TO_SCAN,
    }
    if not isclose(*factors):
        along_a = left[:, 1]  # where the ellipse is longest it has to shrink most
        theta = atan2(along_a[1], along_a[0]) % pi
        found |= {"a": float(factors[0] / factors[1]), "b": 1.0, "theta": theta}
    pixel, pixel_unit = calibration.reciprocal_units
    if pixel_unit != "px":
        found |= {"Q_pixel_size": float(factors[0]) * pixel, "Q_pixel_units": "A^-1"}
    step, step_unit = calibration.scan_units
    if step_unit == "nm":
        found |= {"R_pixel_size": step, "R_pixel_units": "nm"}
    return found
