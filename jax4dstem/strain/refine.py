"""Strain jointly with what all patterns share: disks, background, ellipse, scale and reference lattice."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm

from jax4dstem.coordinates import (
    rotation_period,
    strain_of,
    wrap_angle,
)
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import symmetry_order
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.information import inverse_information
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.patches import patch_side_around
from jax4dstem.lattice.shared import NAMES, RefinedModel, refine_shared
from jax4dstem.lattice.texture import MODES
from jax4dstem.strain.decomposition import variance_factor
from jax4dstem.strain.maps import StrainMap
from jax4dstem.strain.measure import StrainMeasurement

GEOMETRY = ("ellipse_axes", "ellipse_diagonals", "scale", "reference_axes", "reference_diagonals")
ROTATIONS_DIFFER = (
    1e3  # condition of the scaled information beyond which they do not: errors grow thirtyfold
)
STEPS = 6  # of Gauss-Newton; parameters of a few per cent converge quadratically


@dataclass(frozen=True)
class RefinedStrain:
    """Strain, and what all patterns share, with the error bars of both.

    Attributes:
        strain: Of every position; its covariances contain those of everything shared.
        names: Of the shared parameters, ``(m,)``: ``log_radius``, ``log_edge``, ``background`` (changes of the model), then
            ``ellipse_axes`` a and ``ellipse_diagonals`` b of a distortion exp([[-a, b], [b, a]]) of row vectors (y, x) in
            scan axes, beyond what the calibration tells of the detector, ``scale`` (logarithm of the detector's magnification), and, unless the reference was given,
            the same two numbers for the reference lattice.
        values: Of the shared parameters, ``(m,)``.
        covariance: Of them, ``(m, m)``.
        model: Refined, with the ellipse in its ``to_detector``.
        deviance: Half of the deviance of all patterns, at every round.
        step: Last change of disks and background over their standard deviations, the largest.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> zero, cov = np.zeros((1, 1)), np.zeros((1, 1, 4, 4))
        >>> strain = StrainMap(zero, zero, zero, zero, cov, zero.astype(int), np.eye(2), "given")
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> shared = ("log_radius", "scale"), np.array([0.01, 0.02]), np.diag([1e-4, 1e-6])
        >>> found = RefinedStrain(strain, *shared, model, [], 0.0)
        >>> found.value("scale"), found.std("log_radius")
        (0.02, 0.01)
    """

    strain: StrainMap
    names: tuple[str, ...]
    values: np.ndarray
    covariance: np.ndarray
    model: LatticeModel
    deviance: list[float]
    step: float

    def std(self, name: str) -> float:
        """Standard deviation of a shared parameter."""
        i = self.names.index(name)
        return float(np.sqrt(self.covariance[i, i]))

    def value(self, name: str) -> float:
        """A shared parameter."""
        return float(self.values[self.names.index(name)])


def refine_strain(
    scan: Dataset,
    measured: StrainMeasurement,
    *,
    unstrained: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    rounds: int = 3,
) -> RefinedStrain:
    r"""Refine strain together with everything that the patterns of a scan share.

    Radius and edge of the disks and the power of the background follow from the joint likelihood of all counts by Newton's
    method: every pattern's center, lattice and heights are eliminated from its Hessian (Schur complement), and the
    remaining small matrices are added over the scan.

    Ellipse, scale and reference cannot follow from the counts alone: with any of them changed, other strains explain the
    same counts exactly. What is fixed instead, the gauge, is the strain of the positions ``unstrained``: it is zero there,
    on average, in scan axes. With the fitted lattices :math:`G A_s = G_r F_s^{-1} E` in scan axes (G_r reference, E ellipse and scale)

    .. math:: \sum_s e_s^{\mathsf T} C_s^{-1} e_s \to \min, \qquad F_s = (I + e_s) R_s ,

    over the unstrained positions. The ellipse stays with the detector and the shape of the reference turns with the crystal,
    so they are told apart by the rotations R_s only; with one rotation give the reference.

    Args:
        scan: Raw counts.
        measured: From `measure_strain`; positions that show two crystals are left out.
        unstrained: Boolean ``(scan_y, scan_x)``: where strain is zero on average; None for all positions, and strain is then
            relative to the scan's mean.
        reference: g1, g2 of the unstrained lattice as rows (y, x) in scan axes, of which the shape counts; None to refine it.
        rounds: Of Newton's method.

    Returns:
        Strain and shared parameters, with error bars.

    Raises:
        InputError: No unstrained position has a lattice, or their rotations are too alike to refine the reference.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.strain import StrainReference, measure_strain
        >>> scan, truth = polycrystal((8, 8), (96, 96), n_grains=2, seed=5)
        >>> found = measure_strain(scan, truth.parameters.center, 4.0, reference=StrainReference.vectors(*truth.vectors))
        >>> refined = refine_strain(scan, found, reference=truth.vectors, rounds=1)
        >>> bool(refined.std("ellipse_axes") < 1e-3)
        True

    Reference: ours.
    """
    used = measured.strain.ok
    if measured.second is not None:  # one lattice is fitted here
        used = used & ~measured.second.there
    chosen = used if unstrained is None else used & np.asarray(unstrained, bool)
    if not chosen.any():
        raise InputError("no position that is to be unstrained has a fitted lattice")
    lattice = measured.lattice
    fit = _fit_of(measured.model)
    start = np.nan_to_num(lattice.center), np.nan_to_num(lattice.distortion)
    refined = refine_shared(scan, start, measured.model, fit, used, rounds)
    excess = measured.learned.excess
    inflation = variance_factor(lattice.score, excess)
    given = np.asarray(measured.model.lattice if reference is None else reference, np.float64)
    return join_gauge(refined, measured.strain, chosen, given, reference is None, inflation)


def _fit_of(model: LatticeModel) -> FitLattice:
    """The pattern function of a model, which starts near its answer."""
    side = patch_side_around(float(model.radius), model.tightest)
    return FitLattice(side, MODES if float(model.texture) > 0 else 0, coarse=1, fine=3)


def _components(
    own: jax.Array, geometry: jax.Array, model: LatticeModel, reference: jax.Array
) -> jax.Array:
    """Strain of A (its four numbers), for given ellipse, scale and reference."""
    seen = model.lattice @ own.reshape(2, 2).T
    shape = reference @ _stretch(geometry[3:], 0.0) if len(geometry) > 3 else reference
    distortion = _stretch(geometry[:2], geometry[2])
    return jnp.stack(
        strain_of(jnp.linalg.inv(jnp.linalg.inv(shape) @ seen @ jnp.linalg.inv(distortion)))
    )


def _stretch(pair: jax.Array, scale: jax.Array | float) -> jax.Array:
    a, b = pair
    return jnp.exp(scale) * expm(
        jnp.array([[-1.0, 0.0], [0.0, 1.0]]) * a + jnp.array([[0.0, 1.0], [1.0, 0.0]]) * b
    )


@jax.jit
def _derivatives(
    own: jax.Array, geometry: jax.Array, model: LatticeModel, reference: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Strain of many lattices, and its derivatives by them and by the geometry."""
    per = (0, None, None, None)
    value = jax.vmap(_components, per)(own, geometry, model, reference)
    by_own, by_geometry = jax.vmap(jax.jacfwd(_components, (0, 1)), per)(
        own, geometry, model, reference
    )
    return value, by_own, by_geometry


def join_gauge(
    refined: RefinedModel,
    before: StrainMap,
    chosen: np.ndarray,
    reference: np.ndarray,
    shape_is_free: bool,
    inflation: np.ndarray,
) -> RefinedStrain:
    """Fix the gauge, and carry all errors to the strains.

    Args:
        refined: Lattices of all positions, and what they share.
        before: Which positions have a strain.
        chosen: Those where it is zero on average.
        reference: g1, g2 as rows (y, x) in px.
        shape_is_free: Whether the reference's shape is refined too.
        inflation: Factor on the variances from counting, ``(scan_y, scan_x)``.
    """
    fits = refined.fits
    used = before.ok & np.isfinite(fits.distortion).all(axis=(-1, -2))
    chosen = chosen[used]
    own = np.swapaxes(fits.distortion, -1, -2)[used].reshape(-1, 4)
    counting = (
        inverse_information(fits.information)[..., 2:, 2:][used] * inflation[used][:, None, None]
    )
    response = np.asarray(refined.response, np.float64)[used][:, 2:]
    geometry = np.zeros(5 if shape_is_free else 3)
    for _ in range(STEPS):
        linear = _linearize(own, geometry, refined.model, reference)
        inverse, slope = _normal(linear, counting, chosen)
        geometry = geometry - inverse @ np.einsum("sgi,si->g", slope, linear.value[chosen, :3])
    linear = _linearize(own, geometry, refined.model, reference)
    inverse, slope = _normal(linear, counting, chosen)
    by_shared = linear.by_own @ response
    carried = -inverse @ np.einsum("sgi,sin->gn", slope, by_shared[chosen][:, :3])
    covariance = _joint(refined.covariance, inverse, carried)
    through = np.concatenate([by_shared, linear.by_geometry], axis=2)
    total = _propagate(linear.by_own, counting) + _propagate(through, covariance)
    # The unstrained positions' own noise is part of the geometry's.
    total[chosen] -= 2 * _propagate(linear.by_geometry[chosen], inverse)
    ellipse = np.asarray(_stretch(jnp.asarray(geometry[:2]), geometry[2]))
    shape = reference
    if shape_is_free:
        shape = reference @ np.asarray(_stretch(jnp.asarray(geometry[3:]), 0.0))
    values, covariances = np.full((*used.shape, 4), np.nan), np.full((*used.shape, 4, 4), np.nan)
    values[used], covariances[used] = linear.value, total
    values[..., 3] = wrap_angle(values[..., 3], rotation_period(symmetry_order(shape)))
    strain = replace(
        before.with_values(values, covariances, used),
        reference=np.exp(geometry[2]) * shape,
        reference_source="refined: no strain at the unstrained positions, on average",
    )
    return RefinedStrain(
        strain,
        (*NAMES, *GEOMETRY[: len(geometry)]),
        np.concatenate([refined.values, geometry]),
        covariance,
        refined.model._replace(to_detector=jnp.asarray(ellipse, float) @ refined.model.to_detector),
        refined.deviance,
        refined.step,
    )


def _check_rotations(information: np.ndarray) -> None:
    scale = np.sqrt(np.diagonal(information))
    if np.linalg.cond(information / scale[:, None] / scale) > ROTATIONS_DIFFER:
        raise InputError(
            "the unstrained positions are rotated too little against each other to tell the detector's ellipse from the "
            "shape of the reference lattice; give the reference"
        )


def _joint(shared: np.ndarray, geometry: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """Covariance of disks and background, and of the geometry, which their errors are carried to."""
    cross = carried @ shared
    return np.block([[shared, cross.T], [cross, geometry + cross @ carried.T]])


class _Linear(NamedTuple):
    """Strain of every lattice, and its derivatives by the lattice and by the geometry."""

    value: np.ndarray
    by_own: np.ndarray
    by_geometry: np.ndarray


def _linearize(
    own: np.ndarray, geometry: np.ndarray, model: LatticeModel, reference: np.ndarray
) -> _Linear:
    arrays = (jnp.asarray(leaf, float) for leaf in (own, geometry, reference))
    lattices, shared, unstrained = arrays
    parts = _derivatives(lattices, shared, model, unstrained)
    return _Linear(*(np.asarray(part, np.float64) for part in parts))


def _normal(
    linear: _Linear, counting: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the geometry from counting, and weighted slopes of the chosen strains by it."""
    noise = _propagate(linear.by_own[chosen], counting[chosen])[:, :3, :3]
    by_geometry = linear.by_geometry[chosen][:, :3]
    slope = np.swapaxes(by_geometry, 1, 2) @ np.linalg.inv(noise)
    information = np.einsum("sgi,sih->gh", slope, by_geometry)
    _check_rotations(information)
    return np.linalg.inv(information), slope


def _propagate(jacobian: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return jacobian @ covariance @ np.swapaxes(jacobian, -1, -2)
