"""Strain from two peaks of the exit-wave power cepstrum: no model of disks or background."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.cepstrum import refine_cepstral_peaks
from jax4dstem.coordinates import reciprocal_basis
from jax4dstem.dataset import Dataset
from jax4dstem.lattice.basis import reduce_basis
from jax4dstem.lattice.model import LatticeFit
from jax4dstem.strain.maps import EVIDENCE, StrainMap, strain_map
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Pattern

WINDOW = 0.4  # standard deviation of the window, in units of the covered radius
CONTRAST = 8.0  # of the weaker peak over noise, below which there is no lattice


def strain_from_cepstrum(
    dataset: Dataset,
    center: np.ndarray,
    start: np.ndarray,
    vectors: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    region: np.ndarray | None = None,
    progress: str | None = None,
) -> StrainMap:
    r"""Strain from the two shortest lattice vectors in the cepstrum (the EWPC method).

    Peaks of the cepstrum lie at real-space lattice vectors, a'_i = F a_i, so two of them give F.

    Args:
        dataset: Counts; negative pixels count as zero.
        center: Of the direct beam, ``(scan_y, scan_x, 2)`` in px.
        start: A = F⁻¹ relative to ``vectors`` to start from, ``(scan_y, scan_x, 2, 2)``; the peaks
            are then refined from the data alone.
        vectors: g1, g2 as rows (y, x) in px.
        reference: Reference g1, g2; None takes the median of the result.
        region: Boolean ``(scan_y, scan_x)``, where the median is taken.
        progress: Label of the progress bar.

    Returns:
        Strain with error bars from the spread of the logarithm.

    Reference: Padgett et al., Ultramicroscopy 214, 112994 (2020).
    """
    shape = dataset.pattern_shape
    mean = np.nanmean(np.reshape(center, (-1, 2)), axis=0)
    window = WINDOW * float(min(*mean, *(np.array(shape) - 1 - mean)))
    base = np.asarray(reciprocal_basis(jnp.asarray(vectors, float)), np.float64)
    shortest = reduce_basis(base)
    fits = map_patterns(
        _fit_cepstrum,
        dataset,
        jnp.asarray(shortest, float),
        window,
        per_position=(np.asarray(center, np.float32), np.nan_to_num(start).astype(np.float32)),
        progress=progress,
    )
    return strain_map(
        fits, vectors, reference=reference, region=region, calibration=dataset.calibration
    )


def _fit_cepstrum(
    pattern: Pattern, center: Any, start: Any, shortest: Any, window: Any
) -> LatticeFit:
    """The lattice as `FitLattice` gives it: real-space rows are a A⁻ᵀ."""
    counts = jnp.maximum(jnp.nan_to_num(pattern.astype(float)), 0.0)
    size = jnp.asarray(pattern.shape, float)
    mean = jnp.maximum(jnp.mean(counts), 1e-9)
    usable = jnp.abs(jnp.linalg.det(start)) > 0.1
    start = jnp.where(usable, start, jnp.eye(2))
    expected = shortest @ jnp.linalg.inv(start).T * size
    peaks = refine_cepstral_peaks(counts + 1e-6, center, window, 1.0 / mean, expected)
    gradient = (jnp.linalg.inv(shortest) @ (peaks.positions / size)).T
    distortion = jnp.linalg.inv(gradient)

    def positions(parameters: Any) -> Any:
        inverse = jnp.linalg.inv(parameters.reshape(2, 2).T)
        return (shortest @ inverse.T * size).ravel()

    moves = jax.jacfwd(positions)(distortion.T.ravel())
    information = jnp.eye(6).at[2:, 2:].set(moves.T @ (moves / peaks.variance.reshape(-1, 1)))
    weakest = jnp.min(peaks.contrast)
    near = jnp.max(jnp.abs(peaks.positions - expected)) < 0.25 * jnp.min(
        jnp.linalg.norm(expected, axis=1)
    )
    found = usable & near & (weakest > CONTRAST)
    empty = jnp.zeros(1)
    return LatticeFit(
        center,
        distortion,
        information,
        empty,
        empty,
        empty,
        jnp.where(found, EVIDENCE + weakest, 0.0),
        jnp.asarray(0.0),
        near,
    )
