"""How far two references are apart, and how well that is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import Strain, deformation, strain_of
from jax4dstem.lattice.basis import MEDIAN
from jax4dstem.strain.maps import StrainMap
from jax4dstem.strain.measure import StrainMeasurement
from jax4dstem.strain.reference import StrainReference

FEWEST = 3  # positions: of fewer the median is the mean


class ReferenceDifference(NamedTuple):
    """The lattice of one reference relative to that of another.

    Attributes:
        strain: Strain and rotation (radians, counter-clockwise) that take the other's lattice to the one's.
        std: Standard errors of the same.
    """

    strain: Strain
    std: Strain


def reference_difference(
    measured: StrainMeasurement, one: StrainReference, other: StrainReference
) -> ReferenceDifference:
    r"""Strain of one reference's lattice relative to another's, with its standard error; nothing is fitted again.

    A given lattice is known exactly. The median of n positions has the covariance

    .. math:: \frac{\pi}{2 n} \, S C S

    with the mean covariance C of its positions' strain, and a diagonal S, at least 1, by which they scatter more than C says. Both
    errors are propagated through :math:`F = D_1 F_{12} D_2^{-1}`; for regions that share positions the result is an upper limit.

    Args:
        measured: Of the scan; of several lattices the first counts.
        one: The reference that is asked about.
        other: The one that it is compared with.

    Returns:
        Strain, rotation, and standard errors.

    Raises:
        InputError: A region holds no position with a fitted lattice, or is that of another scan.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> from jax4dstem.strain import LatticeStrain, LearnedModel
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1]]), 3.0)
        >>> zero, twice = np.zeros((1, 2)), np.zeros((1, 2, 2))
        >>> covariance = np.tile(1e-6 * np.eye(4), (1, 2, 1, 1))
        >>> unstrained = StrainMap(zero, zero, zero, zero, covariance, zero.astype(int), 12 * np.eye(2), "given")
        >>> distortion = np.array([[np.eye(2), np.diag([1.0, 1 / 1.02])]])  # the right one is longer along x
        >>> fits = LatticeStrain(unstrained, twice, distortion, zero + 20, zero, zero, twice, zero, zero == 0)
        >>> measured = StrainMeasurement(fits, LearnedModel(model, 0.0))
        >>> left, right = (StrainReference.point((1, 2), (0, column)) for column in (0, 1))
        >>> found = reference_difference(measured, right, left)
        >>> round(float(found.strain.e_xx), 4), round(float(found.std.e_xx), 4)
        (0.02, 0.0014)

    Reference: ours.
    """
    first = measured.parts()[0]
    (lattice, own), (other_lattice, others) = (_known(first, each) for each in (one, other))
    gradient = jnp.asarray(np.linalg.inv(np.linalg.inv(other_lattice) @ lattice), float)

    def moved(errors: jax.Array) -> jax.Array:
        behind, before = deformation(*errors[0]), jnp.linalg.inv(deformation(*errors[1]))
        return jnp.stack(strain_of(behind @ gradient @ before))

    slopes = np.asarray(jax.jacfwd(moved)(jnp.zeros((2, 4))), np.float64)
    variance = sum(
        np.einsum("ij,jk,ik->i", slopes[:, n], each, slopes[:, n])
        for n, each in enumerate((own, others))
    )
    return ReferenceDifference(
        Strain(*np.asarray(moved(jnp.zeros((2, 4))), np.float64)), Strain(*np.sqrt(variance))
    )


def _known(
    measured: StrainMeasurement, reference: StrainReference
) -> tuple[np.ndarray, np.ndarray]:
    """The lattice of a reference, and the covariance of its strain relative to what was measured."""
    strain = measured.relative_to(reference).strain
    if reference.lattice is not None:
        return strain.reference, np.zeros((4, 4))
    among = strain.ok if reference.among is None else strain.ok & reference.among
    return strain.reference, _median_covariance(strain, among)


def _median_covariance(strain: StrainMap, among: np.ndarray) -> np.ndarray:
    """Of the median strain of some positions, which is zero."""
    known, count = strain.covariance[among].mean(axis=0), np.count_nonzero(among)
    if count < FEWEST:
        return known / count
    scatter = strain.values[among].var(axis=0, ddof=1)
    excess = np.sqrt(np.maximum(scatter / np.diagonal(known), 1.0))
    return MEDIAN**2 * known * np.outer(excess, excess) / count
