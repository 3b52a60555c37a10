"""Bragg disks of fitted lattices as lists, as other programs have them."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.lattice.intensities import map_intensities
from jax4dstem.strain import StrainMeasurement


@dataclass(frozen=True)
class FittedDisks:
    """The disks of every pattern's fitted lattice.

    Attributes:
        position: ``(scan_y, scan_x, n, 2)``, (y, x) on the detector in px; NaN where a position has fewer than n.
        intensity: Electrons of each disk above the background, ``(scan_y, scan_x, n)``; NaN likewise.
        center: Fitted center of the direct beam, ``(scan_y, scan_x, 2)``, (y, x) in px; NaN where there is no lattice.
    """

    position: np.ndarray
    intensity: np.ndarray
    center: np.ndarray


def fitted_disks(
    scan: Dataset, measured: StrainMeasurement, *, progress: str | None = None
) -> FittedDisks:
    """Where the fitted lattices have disks, and what the counts are there.

    The disks of one pattern lie exactly on its lattice, c + (h, k) G: a lattice that another program fits to them is the one
    that was fitted to the counts. The direct beam comes first. A disk is listed where it is on the detector and brighter than the
    background. Second crystals are left out.

    Args:
        scan: The counts that were measured, in electrons; they are read once more, for the intensities.
        measured: As `strain.measure_strain` gives it.
        progress: Label of the progress bar, shown on a terminal.

    Returns:
        The disks, in px of the patterns.

    Example:
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.lattice import starting_model
        >>> from jax4dstem.strain import LatticeStrain, LearnedModel, StrainMap, StrainMeasurement
        >>> pattern = np.ones((16, 16), np.float32)
        >>> pattern[7:10, 11:14] += 50.0
        >>> zero, cov, center = np.zeros((1, 1)), np.zeros((1, 1, 4, 4)), np.full((1, 1, 2), 8.0)
        >>> model = starting_model(4 * np.eye(2), np.array([[0, 0], [0, 1]]), 1.5)
        >>> strain = StrainMap(zero, zero, zero, zero, cov, zero.astype(int), 4 * np.eye(2), "given")
        >>> fits = LatticeStrain(strain, center, np.eye(2)[None, None], zero, zero, zero, center, zero, zero == 0)
        >>> disks = fitted_disks(Dataset.from_array(pattern[None, None]), StrainMeasurement(fits, LearnedModel(model, 0.0)))
        >>> disks.position[0, 0].tolist(), (disks.intensity[0, 0] > 50).tolist()
        ([[nan, nan], [8.0, 12.0]], [False, True])
    """
    parts = measured.parts()
    most = max(len(part.model.indices) for part in parts)
    position = np.full((*scan.scan_shape, most, 2), np.nan)
    intensity = np.full((*scan.scan_shape, most), np.nan)
    center = np.full((*scan.scan_shape, 2), np.nan)
    for part in parts:
        ok, count = part.strain.ok, len(part.model.indices)
        places, distortion = np.nan_to_num(part.lattice.center), np.nan_to_num(part.lattice.distortion)  # fmt: skip
        seen = map_intensities(scan, places, distortion, part.model, progress)
        electrons = np.asarray(seen.share) * np.asarray(seen.dose)[..., None]
        there = ok[..., None] & (electrons > 0)
        nodes = np.asarray(part.model.indices) @ part.lattices_on_detector
        disks = places[..., None, :] + nodes
        position[..., :count, :][there] = disks[there]
        intensity[..., :count][there] = electrons[there]
        center[ok] = part.lattice.center[ok]
    return FittedDisks(position, intensity, center)
