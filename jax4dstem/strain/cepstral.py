"""Strain from two peaks of the exit-wave power cepstrum: no model of disks or background."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import reciprocal_basis
from jax4dstem.dataset import Dataset
from jax4dstem.lattice.basis import reduce_basis
from jax4dstem.lattice.information import inverse_information
from jax4dstem.patterns.cepstrum import GAUSSIAN_SHARE, covered_radius, refine_cepstral_peaks
from jax4dstem.strain.decomposition import (
    EVIDENCE,
    MeasuredLattices,
    strain_map,
)
from jax4dstem.strain.maps import StrainMap
from jax4dstem.strain.measure import StrainMeasurement
from jax4dstem.strain.reference import StrainReference
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Bool, Float, Pattern, Scalar

CONTRAST = 8.0  # of the weaker peak over noise, below which there is no lattice


class CepstralLattice(NamedTuple):
    """The lattice of one pattern, from its cepstrum.

    Attributes:
        distortion: A, as of `LatticeFit`.
        information: Of (A_00, A_10, A_01, A_11).
        score: Evidence in units of the noise, 0 where no lattice is found.
        converged: Whether the peaks have stayed near where they started.
    """

    distortion: Float[Array, "2 2"]
    information: Float[Array, "4 4"]
    score: Scalar
    converged: Bool[Array, ""]


def strain_from_cepstrum(
    scan: Dataset,
    measured: StrainMeasurement,
    *,
    reference: StrainReference | None = None,
    progress: str | None = None,
) -> StrainMap:
    r"""Strain from the two shortest lattice vectors in the cepstrum (the EWPC method).

    Peaks of the cepstrum lie at real-space lattice vectors, a'_i = F a_i, so two of them give F.

    Args:
        scan: Counts; negative pixels count as zero.
        measured: Centers, and lattices to start from; the peaks are then refined from the data alone.
        reference: What strain is relative to; the median of the result by default.
        progress: Label of the progress bar.

    Returns:
        Strain with error bars from the spread of the logarithm.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> from jax4dstem.strain import LatticeStrain, LearnedModel
        >>> model = starting_model(np.diag([8.0, 8.0]), np.array([[0, 0], [0, 1]]), 2.0)
        >>> zero, center = np.zeros((1, 1)), np.full((1, 1, 2), 32.0)
        >>> unstrained = StrainMap(zero, zero, zero, zero, np.zeros((1, 1, 4, 4)), zero.astype(int), 8 * np.eye(2), "given")
        >>> fits = LatticeStrain(unstrained, center, np.eye(2)[None, None], zero + 20, zero, zero, center, zero, zero == 0)
        >>> measured = StrainMeasurement(fits, LearnedModel(model, 0.0))
        >>> fringes = np.cos(2 * np.pi * np.arange(64) / 8)
        >>> crystal = np.exp(7 + fringes[:, None] + fringes)
        >>> scan, reference = Dataset.from_array(crystal[None, None]), StrainReference.vectors((8, 0), (0, 8))
        >>> found = strain_from_cepstrum(scan, measured, reference=reference)
        >>> bool(abs(found.e_xx.item()) < 2e-3)
        True

    Reference: Padgett et al., Ultramicroscopy 214, 112994 (2020).
    """
    fits, lattice = measured.lattice, np.asarray(measured.model.lattice)
    mean = np.nanmean(np.reshape(fits.center, (-1, 2)), axis=0)
    window = GAUSSIAN_SHARE * covered_radius(mean, scan.pattern_shape)
    to_detector = np.asarray(measured.model.to_detector, np.float64)
    base = np.asarray(reciprocal_basis(jnp.asarray(lattice, float)), np.float64)
    found = map_patterns(
        _fit_cepstrum,
        scan,
        jnp.asarray(reduce_basis(base), float),
        jnp.asarray(np.linalg.inv(to_detector).T, float),
        window,
        per_position=(
            np.asarray(fits.center, np.float32),
            np.nan_to_num(fits.distortion).astype(np.float32),
        ),
        progress=progress,
    )
    covariance = inverse_information(found.information)
    lattices = MeasuredLattices(
        np.asarray(lattice, np.float64), found.distortion, covariance, found.score, found.converged
    )
    if reference is not None:
        reference = reference.seen_through(np.linalg.inv(to_detector))
    return strain_map(lattices, reference)


def _fit_cepstrum(
    pattern: Pattern, center: Any, start: Any, shortest: Any, optics: Any, window: Any
) -> CepstralLattice:
    """The lattice as `FitLattice` gives it: real-space rows are a A⁻ᵀ T⁻ᵀ, with the optics T⁻ᵀ of the detector."""
    counts = jnp.maximum(jnp.nan_to_num(pattern.astype(float)), 0.0)
    size = jnp.asarray(pattern.shape, float)
    mean = jnp.maximum(jnp.mean(counts), 1e-9)
    usable = jnp.abs(jnp.linalg.det(start)) > 0.1
    start = jnp.where(usable, start, jnp.eye(2))
    expected = shortest @ jnp.linalg.inv(start).T @ optics * size
    peaks = refine_cepstral_peaks(counts + 1e-6, center, window, 1.0 / mean, expected)
    own = (peaks.positions / size) @ jnp.linalg.inv(optics)
    gradient = (jnp.linalg.inv(shortest) @ own).T
    distortion = jnp.linalg.inv(gradient)

    def positions(parameters: Any) -> Any:
        inverse = jnp.linalg.inv(parameters.reshape(2, 2).T)
        return (shortest @ inverse.T @ optics * size).ravel()

    moves = jax.jacfwd(positions)(distortion.T.ravel())
    information = moves.T @ (moves / peaks.variance.reshape(-1, 1))
    weakest = jnp.min(peaks.contrast)
    near = jnp.max(jnp.abs(peaks.positions - expected)) < 0.25 * jnp.min(
        jnp.linalg.norm(expected, axis=1)
    )
    found = usable & near & (weakest > CONTRAST)
    return CepstralLattice(distortion, information, jnp.where(found, EVIDENCE + weakest, 0.0), near)
