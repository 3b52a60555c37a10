"""Strain of a whole scan, from raw counts and the centers of the direct beam."""

from typing import Any, NamedTuple

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import IDEAL, Detector
from jax4dstem.lattice.bootstrap import error_inflation
from jax4dstem.lattice.cold_start import learn_lattice
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.sample import sample_scan
from jax4dstem.strain.maps import StrainMap, strain_map
from jax4dstem.stream import map_patterns


class StrainMeasurement(NamedTuple):
    """Strain, the fits it comes from, and what they assume.

    Attributes:
        strain: Per position.
        fits: Lattice of every position.
        model: Learned from the scan.
        excess: k of the errors' inflation, σ² (1 + k / score²).
    """

    strain: StrainMap
    fits: Any
    model: LatticeModel
    excess: float


def measure_strain(
    dataset: Dataset,
    center: np.ndarray,
    radius: float,
    *,
    vectors: np.ndarray | None = None,
    region: np.ndarray | None = None,
    detector: Detector | None = None,
    progress: str | None = None,
) -> StrainMeasurement:
    """Fit a lattice to the counts of every position, with nothing but the direct beam to start from.

    A sample of the scan gives the lattice, the radial background, disk size and edge, and typical
    intensities; then every pattern is searched for the lattice's rotation and fitted by maximum likelihood.

    Args:
        dataset: Raw counts; pixels that are not finite are left out.
        center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px.
        radius: Of the direct beam in px.
        vectors: Reference g1, g2 as rows (y, x) in px; found when None. Gives no rotation away: every
            pattern is searched over all of them.
        region: Boolean ``(scan_y, scan_x)``: reference is the median there. Not with ``vectors``.
        detector: Noise, saturation and usable pixels; None for counted electrons in every pixel.
        progress: Label of the progress bar, shown on a terminal.

    Returns:
        Strain with error bars, and the fits.

    Raises:
        InputError: No lattice is found, or the given one leaves fewer than three reflections.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
        >>> found = measure_strain(scan, truth.parameters.center, 4.2, vectors=truth.vectors)
        >>> bool(np.nanmedian(abs(found.strain.e_xx - truth.e_xx)) < 3e-3)
        True
    """
    center = np.asarray(center, np.float32)
    sample = sample_scan(dataset)
    learned = learn_lattice(sample, sample.of(center), radius, vectors, detector or IDEAL)
    excess = error_inflation(learned, sample, sample.of(center))
    fits = map_patterns(
        learned.measure, dataset, learned.setup, per_position=(center,), progress=progress
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        inflation = np.sqrt(1 + excess / np.maximum(fits.score, 1.0) ** 2)
    strain = strain_map(
        fits,
        np.asarray(learned.setup.model.lattice),
        reference=vectors,
        region=region,
        inflation=inflation,
        calibration=dataset.calibration,
    )
    return StrainMeasurement(strain, fits, learned.setup.model, excess)
