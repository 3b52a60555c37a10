"""From fitted lattices to strain: polar decomposition, reference, error bars, status."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import (
    deform,
    deformation,
    rotation_period,
    strain_of,
    wrap_angle,
)
from jax4dstem.errors import InputError
from jax4dstem.lattice.basis import symmetry_order
from jax4dstem.lattice.information import inverse_information
from jax4dstem.lattice.relation import in_basis_of
from jax4dstem.strain.maps import Status, StrainMap
from jax4dstem.strain.reference import StrainReference

# Without a lattice scores are typically below 3.5; at twice as much most positions of a faint scan are refused (experiments/sensitivity).
EVIDENCE = 4.5  # smallest score of a lattice, in units of the noise
LARGEST_STRAIN = 0.15  # beyond it the search has found something else
COMMON = 0.9  # mean phase of rotations, from which on they scatter around one
LARGEST_ERROR = 0.03  # standard deviation of a strain component that still tells anything


class MeasuredLattices(NamedTuple):
    """What strain is computed from: the lattice G = G_0 A of every position in scan axes, and how well it is known.

    Attributes:
        lattice: G_0 that all refer to: g1, g2 as rows (y, x) in px.
        distortion: A, ``(scan_y, scan_x, 2, 2)``; NaN where nothing was measured.
        covariance: Of (A_00, A_10, A_01, A_11), ``(scan_y, scan_x, 4, 4)``.
        score: Evidence for the lattice in units of the noise, ``(scan_y, scan_x)``.
        converged: Whether the measurement had settled, ``(scan_y, scan_x)``; True where there is nothing to settle.
    """

    lattice: np.ndarray
    distortion: np.ndarray
    covariance: np.ndarray
    score: np.ndarray
    converged: np.ndarray | bool = True

    @classmethod
    def of_fits(cls, fits: Any, lattice: np.ndarray, excess: float = 0.0) -> "MeasuredLattices":
        """Of likelihood fits, from their Fisher information.

        Args:
            fits: `LatticeFit` of every position, arrays ``(scan_y, scan_x, ...)``.
            lattice: G_0 of their model.
            excess: k of the errors' inflation; see `variance_factor`.
        """
        covariance = inverse_information(fits.information)[..., 2:, 2:]
        covariance = covariance * variance_factor(fits.score, excess)[..., None, None]
        return cls(
            np.asarray(lattice, np.float64), fits.distortion, covariance, fits.score, fits.converged
        )


def variance_factor(score: np.ndarray, excess: float) -> np.ndarray:
    r"""By how much variances exceed those from counting, :math:`1 + k / \max(Z, 1)^2`.

    Args:
        score: Evidence Z for the lattice in units of the noise.
        excess: k, from `error_inflation`.
    """
    return 1 + excess / np.maximum(np.nan_to_num(score), 1.0) ** 2


def strain_map(
    measured: MeasuredLattices,
    reference: StrainReference | None = None,
) -> StrainMap:
    r"""Strain of measured lattices relative to a reference.

    With G = G_ref F⁻¹ and the left polar decomposition F = (I + E) R; errors are propagated to first
    order.

    Args:
        measured: Lattices of all positions.
        reference: What strain is relative to, in scan axes as the lattices are (`StrainReference.seen_through`); the
            median of all positions by default.

    Returns:
        The strain map.

    Raises:
        InputError: The reference's region is empty.

    Example:
        >>> distortion = np.tile(np.diag([1.0, 1 / 1.01]), (1, 3, 1, 1))  # x is stretched by 1 %
        >>> covariance, score = np.tile(1e-6 * np.eye(4), (1, 3, 1, 1)), np.full((1, 3), 20.0)
        >>> square = MeasuredLattices(20 * np.eye(2), distortion, covariance, score)
        >>> strain_map(square, StrainReference.vectors((20, 0), (0, 20))).e_xx.round(4).tolist()
        [[0.01, 0.01, 0.01]]
    """
    values, jacobian = _decompose(measured, measured.lattice)
    status = _status(measured, _propagate(jacobian, measured.covariance))
    reference = reference or StrainReference.median()
    lattice = _reference_lattice(measured.lattice, values, status == Status.OK, reference)
    return _relative_to(measured, status, lattice, reference.source)


def remeasured(
    measured: MeasuredLattices,
    strain: StrainMap,
    reference: StrainReference,
) -> StrainMap:
    """Strain of lattices whose strain is known, relative to another reference.

    Args:
        measured: The lattices; their covariances are taken from their strain.
        strain: Of them.
        reference: The new one, in scan axes.
    """
    ok = strain.ok
    values, _ = _decompose(measured, measured.lattice)
    lattice = _reference_lattice(measured.lattice, values, ok, reference)
    _, jacobian = _decompose(measured, strain.reference)
    back = np.linalg.inv(np.where(ok[..., None, None], jacobian, np.eye(4)))
    measured = measured._replace(covariance=_propagate(back, strain.covariance))
    return _relative_to(measured, strain.status, lattice, reference.source)


def _relative_to(
    measured: MeasuredLattices,
    status: np.ndarray,
    lattice: np.ndarray,
    source: str,
) -> StrainMap:
    """Strain of measured lattices relative to g1, g2 where the status is OK."""
    values, jacobian = _decompose(measured, lattice)
    covariance = _propagate(jacobian, measured.covariance)
    values[..., 3] = wrap_angle(values[..., 3], rotation_period(symmetry_order(lattice)))
    unknown = np.full(status.shape, np.nan)
    empty = StrainMap(unknown, unknown, unknown, unknown, covariance, status, lattice, source)
    return replace(empty.with_values(values, covariance, status == Status.OK), status=status)


def _reference_lattice(
    lattice: np.ndarray, values: np.ndarray, ok: np.ndarray, reference: StrainReference
) -> np.ndarray:
    """g1, g2 of the reference, by the strains relative to a lattice where it is a median."""
    if reference.lattice is not None:  # in whatever basis it is given
        return in_basis_of(reference.lattice, lattice)
    chosen = ok
    if reference.among is not None:
        reference.check_fits(ok.shape)
        chosen = ok & reference.among
        if not chosen.any():
            raise InputError("the reference region holds no position with a fitted lattice")
    return median_lattice(values[chosen], lattice)


def _status(measured: MeasuredLattices, covariance: np.ndarray) -> np.ndarray:
    """Status of every position, from evidence, range and errors."""
    distortion, score = measured.distortion, measured.score
    finite = np.isfinite(distortion).all(axis=(-1, -2)) & np.isfinite(score)
    stretch = np.linalg.svd(np.nan_to_num(distortion))[1]
    far = (np.abs(stretch - 1) > LARGEST_STRAIN).any(axis=-1)
    diagonal = np.diagonal(covariance, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        vague = ~(diagonal[..., :3] < LARGEST_ERROR**2).all(axis=-1) | ~(diagonal > 0).all(axis=-1)
        missing = ~(score >= EVIDENCE)
    conditions = [~finite, missing, vague, far | ~np.asarray(measured.converged)]
    choices = [Status.EMPTY, Status.NO_LATTICE, Status.UNDETERMINED, Status.NOT_CONVERGED]
    return np.select(conditions, choices, Status.OK).astype(np.int8)


def median_lattice(values: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """The lattice whose strain is the median, turned by the median rotation if there is a common one.

    Args:
        values: (e_xx, e_yy, e_xy, theta) relative to ``lattice``, ``(n, 4)``.
        lattice: g1, g2 as rows (y, x).
    """
    if not len(values):
        return lattice
    symmetry = symmetry_order(lattice)
    phase = np.exp(1j * symmetry * values[:, 3])
    mean = np.angle(phase.mean()) / symmetry
    rotations = mean + wrap_angle(values[:, 3] - mean, rotation_period(symmetry))
    common = float(np.median(rotations)) if abs(phase.mean()) > COMMON else 0.0
    # Strain acts after the rotation, so its median is that of differently turned crystals as well.
    turned = np.array([_in_crystal_axes(value, value[3] - common) for value in values])
    e_xx, e_yy, e_xy = np.median(turned[:, :3], axis=0).tolist()
    gradient = deformation(e_xx, e_yy, e_xy, common)
    # Not reduced: its vectors must stay those of the model, one by one.
    return np.asarray(deform(jnp.asarray(lattice, float), gradient), np.float64)


def _in_crystal_axes(value: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    strain = turn.T @ np.array([[value[1], value[2]], [value[2], value[0]]]) @ turn
    return np.array([strain[1, 1], strain[0, 0], strain[0, 1]])


def _decompose(measured: MeasuredLattices, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strain components of every lattice, and their derivatives by (A_00, A_10, A_01, A_11)."""
    distortion = np.asarray(measured.distortion)
    change = jnp.asarray(np.linalg.inv(reference) @ measured.lattice, float)
    shape = distortion.shape[:-2]
    flat = np.swapaxes(distortion, -1, -2).reshape(-1, 4)
    flat = jnp.asarray(np.where(np.isfinite(flat).all(axis=1, keepdims=True), flat, [1, 0, 0, 1]))
    values, jacobian = _components_of_all(flat, change)
    # Copies: what JAX has made in float64 can be read only.
    return (
        np.array(values, np.float64).reshape(*shape, 4),
        np.array(jacobian, np.float64).reshape(*shape, 4, 4),
    )


@jax.jit
def _components_of_all(parameters: jax.Array, change: jax.Array) -> tuple[jax.Array, jax.Array]:
    def components(one: jax.Array) -> jax.Array:
        return jnp.stack(strain_of(jnp.linalg.inv(change @ one.reshape(2, 2).T)))

    return jax.vmap(components)(parameters), jax.vmap(jax.jacfwd(components))(parameters)


def _propagate(jacobian: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return jacobian @ covariance @ np.swapaxes(jacobian, -1, -2)
