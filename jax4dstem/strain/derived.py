"""What follows from a strain map: dilatation, principal strains, lattice curvature, Burgers density."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jax4dstem.coordinates import Calibration, wrap_angle
from jax4dstem.fields import SCAN, Result, entry
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.strain.maps import StrainMap

Steps = tuple[float, float]  # between rows, and between columns
HALF: Steps = (0.5, 0.5)  # of which a central difference is that of the neighbors
# Turn from one position to the next, above which it is a grain boundary and no curvature, as in maps of electron backscatter diffraction:
# M. Calcagnotto et al., Mater. Sci. Eng. A 527, 2738 (2010).
BOUNDARY = np.radians(5.0)


@dataclass(frozen=True)
class Derived(Result):
    """Maps with their standard deviations, ``(scan_y, scan_x)``; NaN where the strain is.

    Attributes:
        dilatation: e_xx + e_yy, the relative change of area.
        max_shear: Half the difference of the principal strains.
        principal_angle: Direction of the larger principal strain, in radians, counter-clockwise from x,
            in (−π/2, π/2].
        curvature: Length of the gradient of theta, in radians per nm; per position where the step of the scan is not known.
        burgers: Density of Burgers vectors (y, x), their length per area: per nm, or per position; ``(scan_y, scan_x, 2)``.
        dilatation_std: Standard deviation.
        max_shear_std: Standard deviation.
        principal_angle_std: Standard deviation.
        curvature_std: Standard deviation.
        burgers_std: Standard deviation, ``(scan_y, scan_x, 2)``.
        curvature_unit: ``rad/nm`` or ``rad/position``.
        burgers_unit: ``1/nm`` or ``1/position``.
    """

    dilatation: np.ndarray = entry(SCAN, "1", "relative change of area, e_xx + e_yy")
    max_shear: np.ndarray = entry(SCAN, "1", "half the difference of the principal strains")
    principal_angle: np.ndarray = entry(
        SCAN, "rad", "direction of the larger principal strain, counter-clockwise from x"
    )
    curvature: np.ndarray = entry(SCAN, "{curvature_unit}", "length of the gradient of theta")
    burgers: np.ndarray = entry(f"{SCAN} yx", "{burgers_unit}", "density of Burgers vectors (y, x)")
    dilatation_std: np.ndarray = entry(SCAN, "1", "standard deviation of dilatation")
    max_shear_std: np.ndarray = entry(SCAN, "1", "standard deviation of max_shear")
    principal_angle_std: np.ndarray = entry(SCAN, "rad", "standard deviation of principal_angle")
    curvature_std: np.ndarray = entry(SCAN, "{curvature_unit}", "standard deviation of curvature")
    burgers_std: np.ndarray = entry(f"{SCAN} yx", "{burgers_unit}", "standard deviation of burgers")
    curvature_unit: str = "rad/position"
    burgers_unit: str = "1/position"


def derive(strain: StrainMap, calibration: Calibration | None = None) -> Derived:
    r"""Derived maps of a strain map, errors propagated to first order.

    With the inverse distortion :math:`\beta = F^{-1} \approx I - E - \Omega` the density of Burgers vectors
    is its curl (Nye, Acta Metall. 1, 153, 1953),

    .. math:: B_i = \partial_x \beta_{iy} - \partial_y \beta_{ix} ,

    zero for any compatible strain; derivatives are central differences over one position on each side, by its distance in y and x.
    Beside a grain boundary, where theta turns by more than 5 degrees from a position to the next, there is neither curvature nor
    a density.

    Args:
        strain: Per position or pooled; neighboring errors are taken as independent.
        calibration: Of the scan: its step in y and x.

    Returns:
        The maps and their standard deviations; NaN where the strain is, or that of a neighbor a derivative needs, and
        derivatives beside a grain boundary.

    Example:
        >>> zero, cov = np.zeros((3, 3)), np.tile(1e-6 * np.eye(4), (3, 3, 1, 1))
        >>> flat = StrainMap(zero + 0.01, zero, zero, zero, cov, zero.astype(int), np.eye(2), "given")
        >>> maps = derive(flat)
        >>> maps.dilatation[1, 1].round(3).item(), maps.max_shear[1, 1].round(3).item()
        (0.01, 0.005)
    """
    e_xx, e_yy, e_xy = strain.e_xx, strain.e_yy, strain.e_xy
    half = (e_xx - e_yy) / 2
    shear = np.hypot(half, e_xy)
    safe = np.maximum(shear, 1e-12)
    zero, one = np.zeros_like(e_xx), np.ones_like(e_xx)
    by_shear = np.stack([half / safe / 2, -half / safe / 2, e_xy / safe, zero], -1)
    # y points down and angles are counter-clockwise on the screen, hence the sign.
    by_angle = np.stack([e_xy, -e_xy, -2 * half, zero], -1) / (4 * safe**2)[..., None]
    steps, unit = (calibration or Calibration()).scan_steps
    inside = np.where(_beside_boundary(strain) | ~strain.ok, np.nan, 1.0)
    curvature, curvature_std = (inside * each for each in _curvature(strain, steps))
    burgers, burgers_std = (inside[..., None] * each for each in _burgers(strain, steps))
    return Derived(
        e_xx + e_yy,
        shear,
        0.5 * np.arctan2(-e_xy, half),
        curvature,
        burgers,
        _std(np.stack([one, one, zero, zero], -1), strain.covariance),
        _std(by_shear, strain.covariance),
        np.minimum(_std(by_angle, strain.covariance), np.pi / 2),
        curvature_std,
        burgers_std,
        f"rad/{unit}",
        f"1/{unit}",
    )


def _std(gradient: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("...i,...ij,...j->...", gradient, covariance, gradient))


def _central(values: np.ndarray, axis: int, steps: Steps) -> np.ndarray:
    """Difference of the neighbors along an axis over their distance; NaN at the rim."""
    result = np.full(values.shape, np.nan)
    inner = [slice(None)] * values.ndim
    inner[axis] = slice(1, -1)
    count = values.shape[axis]
    if count > 2:
        after, before = (
            np.take(values, range(2, count), axis),
            np.take(values, range(count - 2), axis),
        )
        result[tuple(inner)] = (after - before) / (2 * steps[axis])
    return result


def _spread(variance: np.ndarray, axis: int, steps: Steps) -> np.ndarray:
    """Variance of `_central`."""
    count = variance.shape[axis]
    result = np.full(variance.shape, np.nan)
    inner = [slice(None)] * variance.ndim
    inner[axis] = slice(1, -1)
    if count > 2:
        after = np.take(variance, range(2, count), axis)
        before = np.take(variance, range(count - 2), axis)
        result[tuple(inner)] = (after + before) / (2 * steps[axis]) ** 2
    return result


def _beside_boundary(strain: StrainMap) -> np.ndarray:
    """Positions whose lattice is turned against a neighbor's, modulo the symmetry, by more than a crystal bends."""
    beside = np.zeros(strain.theta.shape, bool)
    for axis in (0, 1):
        turned = abs(wrap_angle(np.diff(strain.theta, axis=axis), strain.period)) > BOUNDARY
        before, after = ([(0, 0), (0, 0)] for _ in range(2))
        before[axis], after[axis] = (1, 0), (0, 1)
        beside |= np.pad(turned, before) | np.pad(turned, after)
    return beside


def _turn(strain: StrainMap, axis: int, steps: Steps) -> np.ndarray:
    """Derivative of theta along an axis, modulo the symmetry."""
    difference = wrap_angle(_central(strain.theta, axis, HALF), strain.period)
    return difference / (2 * steps[axis])


def _curvature(strain: StrainMap, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    along_y, along_x = _turn(strain, 0, steps), _turn(strain, 1, steps)
    length = np.hypot(along_y, along_x)
    variance = strain.std("theta") ** 2
    spread_y, spread_x = _spread(variance, 0, steps), _spread(variance, 1, steps)
    safe = np.maximum(length, 1e-12)
    return length, np.sqrt((along_y / safe) ** 2 * spread_y + (along_x / safe) ** 2 * spread_x)


def _burgers(strain: StrainMap, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    # R = [[1, -θ], [θ, 1]] on (y, x), so β_yy = -e_yy, β_yx = -e_xy + θ, β_xy = -e_xy - θ, β_xx = -e_xx.
    turn_y, turn_x = _turn(strain, 0, steps), _turn(strain, 1, steps)
    b_y = -_central(strain.e_yy, 1, steps) + _central(strain.e_xy, 0, steps) - turn_y
    b_x = -_central(strain.e_xy, 1, steps) - turn_x + _central(strain.e_xx, 0, steps)
    var = {name: strain.std(name) ** 2 for name in ("e_xx", "e_yy", "e_xy", "theta")}
    both = strain.covariance[..., 2, 3]
    along_y = _spread(var["e_xy"] + var["theta"] - 2 * both, 0, steps)
    along_x = _spread(var["e_xy"] + var["theta"] + 2 * both, 1, steps)
    std_y = _spread(var["e_yy"], 1, steps) + along_y
    std_x = along_x + _spread(var["e_xx"], 0, steps)
    return np.stack([b_y, b_x], -1), np.sqrt(np.stack([std_y, std_x], -1))


def friedel_asymmetry(fits: Any, model: LatticeModel) -> np.ndarray:
    r"""Asymmetry of opposite reflections: where the lattice is tilted off the beam, as on ripples.

    .. math:: A = \frac{\sum_g I_g \, \hat g}{\sum_g I_g}

    over the diffracted reflections with their unit vectors ĝ in scan axes; zero by Friedel's law for a
    thin crystal seen along a zone axis.

    Args:
        fits: With ``distortion`` ``(scan_y, scan_x, 2, 2)`` and ``intensities``
            ``(scan_y, scan_x, n)``, as `LatticeFit` has them.
        model: That they refer to.

    Returns:
        (y, x), ``(scan_y, scan_x, 2)``.

    Example:
        >>> from types import SimpleNamespace
        >>> from jax4dstem.lattice.model import starting_model
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1], [0, -1]]), 3.0)
        >>> intensities = np.array([[[0.9, 0.03, 0.01]]])
        >>> fits = SimpleNamespace(distortion=np.eye(2)[None, None], intensities=intensities)
        >>> friedel_asymmetry(fits, model).round(3).tolist()
        [[[0.0, 0.5]]]

    Reference: ours; for the law, Friedel, C. R. Acad. Sci. 157, 1533 (1913).
    """
    indices = np.asarray(model.indices)
    there = {tuple(pair) for pair in indices.tolist()}
    paired = np.array([(-h, -k) in there and (h, k) != (0, 0) for h, k in indices.tolist()])
    vectors = np.asarray(model.lattice) @ np.asarray(fits.distortion)
    g = indices[paired] @ vectors
    unit = g / np.linalg.norm(g, axis=-1, keepdims=True)
    intensities = np.asarray(fits.intensities)[..., paired]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("...n,...ni->...i", intensities, unit) / intensities.sum(-1)[..., None]
