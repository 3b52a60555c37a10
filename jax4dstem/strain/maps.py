"""From fitted lattices to strain: polar decomposition, reference, error bars, status."""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import Calibration, deform, deformation, strain_of, wrap_angle
from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import symmetry_order

COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
EVIDENCE = 4.5  # smallest score of a lattice, in units of the noise
LARGEST_STRAIN = 0.15  # beyond it the search has found something else
UNKNOWN = 1e12  # variance where the information is singular
LARGEST_ERROR = 0.03  # standard deviation of a strain component that still tells anything


class Status(IntEnum):
    """Why a position has no strain."""

    OK = 0
    EMPTY = 1  # no counts, or pixels that are no numbers
    NO_LATTICE = 2  # no evidence for the lattice: vacuum, amorphous, or another crystal
    UNDETERMINED = 3  # the reflections on the detector do not fix the lattice
    NOT_CONVERGED = 4  # the fit left the range of the search, or was still moving


@dataclass(frozen=True)
class StrainMap:
    r"""Strain of every position, with its error bars.

    Tension is positive; e_xx is along x (to the right), e_yy along y (down), e_xy the tensor shear;
    theta is counter-clockwise on the screen, modulo the symmetry of the lattice. All are NaN where the
    status is not OK.

    Attributes:
        e_xx: ``(scan_y, scan_x)``.
        e_yy: The same.
        e_xy: The same.
        theta: In radians.
        covariance: Of (e_xx, e_yy, e_xy, theta), ``(scan_y, scan_x, 4, 4)``.
        status: `Status` of every position.
        vectors: Reference g1, g2 as rows (y, x) in px.
        reference: Where the reference comes from, in words.

    Example:
        >>> import numpy as np
        >>> zero, cov = np.zeros((2, 2)), np.tile(1e-6 * np.eye(4), (2, 2, 1, 1))
        >>> strain = StrainMap(zero, zero, zero, zero, cov, zero.astype(int), np.eye(2), "given")
        >>> strain.std("e_xx")[0, 0].round(6).item()
        0.001
    """

    e_xx: np.ndarray
    e_yy: np.ndarray
    e_xy: np.ndarray
    theta: np.ndarray
    covariance: np.ndarray
    status: np.ndarray
    vectors: np.ndarray
    reference: str

    def std(self, component: str) -> np.ndarray:
        """Standard deviation of a component."""
        i = COMPONENTS.index(component)
        return np.sqrt(self.covariance[..., i, i])

    @property
    def values(self) -> np.ndarray:
        """The four components, ``(scan_y, scan_x, 4)``."""
        return np.stack([getattr(self, name) for name in COMPONENTS], axis=-1)

    @property
    def ok(self) -> np.ndarray:
        """Positions that have a strain."""
        return self.status == Status.OK

    @property
    def symmetry(self) -> int:
        """Rotational symmetry of the lattice: theta is known modulo 2π over it."""
        return symmetry_order(self.vectors)

    @property
    def period(self) -> float:
        """What theta is known modulo, in radians."""
        return 2 * np.pi / self.symmetry

    def with_values(
        self, values: np.ndarray, covariance: np.ndarray, ok: np.ndarray
    ) -> "StrainMap":
        """The same reference with other strains; positions that are not ok lose theirs."""
        values = np.where(ok[..., None], values, np.nan)
        covariance = np.where(ok[..., None, None], covariance, np.nan)
        status = np.where(ok, Status.OK, np.where(self.ok, Status.NOT_CONVERGED, self.status))
        parts = dict(zip(COMPONENTS, np.moveaxis(values, -1, 0), strict=True))
        return replace(self, **parts, covariance=covariance, status=status.astype(np.int8))


def fit_status(fits: Any, covariance: np.ndarray) -> np.ndarray:
    """Status of every fit, from its evidence, range and errors."""
    finite = np.isfinite(fits.distortion).all(axis=(-1, -2)) & np.isfinite(fits.score)
    stretch = np.linalg.svd(np.nan_to_num(fits.distortion))[1]
    far = (np.abs(stretch - 1) > LARGEST_STRAIN).any(axis=-1)
    diagonal = np.diagonal(covariance, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        vague = ~(diagonal[..., :3] < LARGEST_ERROR**2).all(axis=-1) | ~(diagonal > 0).all(axis=-1)
        missing = ~(fits.score >= EVIDENCE)
    conditions = [~finite, missing, vague, far | ~fits.converged]
    choices = [Status.EMPTY, Status.NO_LATTICE, Status.UNDETERMINED, Status.NOT_CONVERGED]
    return np.select(conditions, choices, Status.OK).astype(np.int8)


def strain_map(
    fits: Any,
    vectors: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    region: np.ndarray | None = None,
    inflation: np.ndarray | float = 1.0,
    calibration: Calibration | None = None,
) -> StrainMap:
    r"""Strain of fitted lattices relative to a reference.

    With G = G_ref F⁻¹ and the left polar decomposition F = (I + E) R; errors are propagated to first
    order from the Fisher information. The strain is turned into the axes of the scan.

    Args:
        fits: From the lattice fit, arrays ``(scan_y, scan_x, ...)``.
        vectors: The model's g1, g2 that the fits refer to.
        reference: Reference g1, g2 as rows (y, x) in px; None takes the median of the fits.
        region: Boolean ``(scan_y, scan_x)``: positions the median is taken over; None takes all.
        inflation: Factor on the standard deviations.
        calibration: Its scan rotation and flip are applied.

    Returns:
        The strain map.

    Raises:
        InputError: The region is empty, or the reference spans no lattice.
    """
    information = np.nan_to_num(fits.information.astype(np.float64))
    covariance = _inverse(information)[..., 2:, 2:]
    covariance = covariance * np.asarray(inflation)[..., None, None] ** 2
    own = _decompose(fits.distortion, np.asarray(vectors, np.float64), np.asarray(vectors))
    status = fit_status(fits, _propagate(own[1], covariance))
    ok = status == Status.OK
    if reference is None:
        chosen = ok if region is None else ok & region
        if region is not None and not chosen.any():
            raise InputError("the reference region holds no position with a fitted lattice")
        reference = median_lattice(own[0][chosen], np.asarray(vectors, np.float64))
        told = "median of the region" if region is not None else "median of all fitted positions"
    else:
        reference = np.asarray(reference, np.float64)
        told = "given lattice"
        if abs(np.linalg.det(reference)) < 1e-6 * np.prod(np.linalg.norm(reference, axis=1)):
            raise InputError(f"the reference vectors {reference.tolist()} span no lattice")
    values, jacobian = _decompose(fits.distortion, np.asarray(vectors, np.float64), reference)
    covariance = _propagate(jacobian, covariance)
    values, covariance = _to_scan_axes(values, covariance, calibration or Calibration())
    values[..., 3] = wrap_angle(values[..., 3], 2 * np.pi / symmetry_order(reference))
    unknown = np.full(status.shape, np.nan)
    empty = StrainMap(unknown, unknown, unknown, unknown, covariance, status, reference, told)
    return replace(empty.with_values(values, covariance, ok), status=status)


def median_lattice(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The lattice whose strain is the median, turned by the median rotation if there is a common one.

    Args:
        values: (e_xx, e_yy, e_xy, theta) relative to ``vectors``, ``(n, 4)``.
        vectors: g1, g2 as rows (y, x).
    """
    if not len(values):
        return vectors
    symmetry = symmetry_order(vectors)
    phase = np.exp(1j * symmetry * values[:, 3])
    mean = np.angle(phase.mean()) / symmetry
    rotations = mean + wrap_angle(values[:, 3] - mean, 2 * np.pi / symmetry)
    common = float(np.median(rotations)) if abs(phase.mean()) > 0.9 else 0.0
    # Strain acts after the rotation, so its median is that of differently turned crystals as well.
    turned = np.array([_in_crystal_axes(value, value[3] - common) for value in values])
    e_xx, e_yy, e_xy = np.median(turned[:, :3], axis=0).tolist()
    gradient = deformation(e_xx, e_yy, e_xy, common)
    # Not reduced: its vectors must stay those of the model, one by one.
    return np.asarray(deform(jnp.asarray(vectors, float), gradient), np.float64)


def _in_crystal_axes(value: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    strain = turn.T @ np.array([[value[1], value[2]], [value[2], value[0]]]) @ turn
    return np.array([strain[1, 1], strain[0, 0], strain[0, 1]])


def _decompose(
    distortion: np.ndarray, vectors: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Strain components of every A, and their derivatives by (A_00, A_10, A_01, A_11)."""
    change = jnp.asarray(np.linalg.inv(reference) @ vectors, float)
    shape = distortion.shape[:-2]
    flat = np.swapaxes(np.asarray(distortion), -1, -2).reshape(-1, 4)
    flat = jnp.asarray(np.where(np.isfinite(flat).all(axis=1, keepdims=True), flat, [1, 0, 0, 1]))
    values, jacobian = _components_of_all(flat, change)
    return (
        np.asarray(values, np.float64).reshape(*shape, 4),
        np.asarray(jacobian, np.float64).reshape(*shape, 4, 4),
    )


@jax.jit
def _components_of_all(parameters: jax.Array, change: jax.Array) -> tuple[jax.Array, jax.Array]:
    def components(one: jax.Array) -> jax.Array:
        return jnp.stack(strain_of(jnp.linalg.inv(change @ one.reshape(2, 2).T)))

    return jax.vmap(components)(parameters), jax.vmap(jax.jacfwd(components))(parameters)


def _propagate(jacobian: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return jacobian @ covariance @ np.swapaxes(jacobian, -1, -2)


def _inverse(information: np.ndarray) -> np.ndarray:
    """Inverses of symmetric matrices in scaled parameters; huge where there is none."""
    scale = np.sqrt(np.maximum(np.diagonal(information, axis1=-2, axis2=-1), 1e-300))
    scaled = information / scale[..., :, None] / scale[..., None, :]
    singular = np.linalg.cond(scaled) > 1e7  # float32 sums cannot tell it from zero
    scaled[singular] = np.eye(information.shape[-1])
    inverse = np.linalg.inv(scaled) / scale[..., :, None] / scale[..., None, :]
    inverse[singular] = UNKNOWN * np.eye(information.shape[-1])
    return inverse


def _to_scan_axes(
    values: np.ndarray, covariance: np.ndarray, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Turn strain from detector to scan axes; a flip reverses shear and rotation."""
    if calibration.scan_rotation == 0 and not calibration.scan_flip:
        return values, covariance
    cos, sin = np.cos(-calibration.scan_rotation), np.sin(-calibration.scan_rotation)
    # e' = T e for (e_xx, e_yy, e_xy, theta) under the rotation of (y, x) vectors.
    turn = np.array(
        [
            [cos**2, sin**2, 2 * sin * cos, 0],
            [sin**2, cos**2, -2 * sin * cos, 0],
            [-sin * cos, sin * cos, cos**2 - sin**2, 0],
            [0, 0, 0, 1],
        ]
    )
    if calibration.scan_flip:
        turn = np.diag([1.0, 1.0, -1.0, -1.0]) @ turn
    return values @ turn.T, turn @ covariance @ turn.T
