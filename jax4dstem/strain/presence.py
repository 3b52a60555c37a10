"""Where a known lattice is, position by position, although a single pattern is too dark to show it."""

import numpy as np
from scipy import ndimage

from jax4dstem.dataset import Dataset
from jax4dstem.lattice.intensities import background_under, disk_pixels, map_intensities
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.strain.neighbors import block_of

CERTAIN = 4.0  # standard deviations between the usual amount and half of it


def base_of_positions(
    scan: Dataset,
    beam_center: np.ndarray,
    base: np.ndarray,
    distortion: np.ndarray,
    model: LatticeModel,
    size: int,
    progress: str | None = None,
) -> np.ndarray:
    """Base lattice of every position of the scan, from those of its blocks.

    A position is crystal where it holds at least half of the lattice that its base usually has; then its base is that of its
    block, or of the nearest block that has one.

    Args:
        scan: Raw counts of single positions.
        beam_center: Of the direct beam, ``(scan_y, scan_x, 2)`` in px.
        base: Base of every block, ``(rows, cols)``; -2 background.
        distortion: A of the lattice of every block, ``(rows, cols, 2, 2)``.
        model: That it refers to.
        size: Positions along each side of a block.
        progress: Label of the progress bar.

    Returns:
        Labels ``(scan_y, scan_x)`` as in ``base``.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1], [0, -1]]), 3.0)
        >>> model = model._replace(background=1e-9 * model.background)
        >>> y, x = np.indices((64, 64))
        >>> disk = lambda at: np.hypot(y - 32, x - at) < 3.0
        >>> crystal = 1e6 * disk(32) + 1e3 * (disk(20) + disk(44))
        >>> patterns = np.array([[crystal, crystal], [crystal, 1e6 * disk(32)]], np.float32)  # one block
        >>> block = np.zeros((1, 1), int), np.eye(2)[None, None]
        >>> base_of_positions(Dataset.from_array(patterns), np.full((2, 2, 2), 32.0), *block, model, 2).tolist()
        [[0, 0], [0, -2]]
    """
    block = block_of(base.shape, scan.scan_shape, size)
    if not (base > -2).any():
        return base[block]
    nearest = ndimage.distance_transform_edt(
        base == -2, return_distances=False, return_indices=True
    )
    own = base[tuple(nearest)][block]
    lattices = distortion[tuple(nearest)][block]
    amount = lattice_amount(scan, beam_center, lattices, model, progress)
    usual = np.ones(own.shape)
    for label in np.unique(own):
        here = own == label
        usual[here] = np.median(amount[here & (base[block] == label)])
    return np.where(amount < 0.5 * usual, -2, own).astype(base.dtype)


def lattice_amount(
    dataset: Dataset,
    center: np.ndarray,
    distortion: np.ndarray,
    model: LatticeModel,
    progress: str | None = None,
) -> np.ndarray:
    r"""Amount of a known lattice at every position, 1 where it has the typical intensities of the model.

    .. math:: a = \frac{\sum_j w_j s_j}{\sum_j w_j I_j}, \qquad w_j = \ln\left(1 + I_j / b_j\right)

    with the share s of the electrons in the diffracted disks above the background, the typical share I, the
    background b under each: the logarithm of the likelihood ratio of counted electrons (of other noise, its own). It is
    averaged over a Gaussian neighborhood, as wide as the noise demands for four standard deviations between 1 and a
    half, and no wider.

    Args:
        dataset: Raw counts.
        center: Of the direct beam, ``(scan_y, scan_x, 2)`` in px.
        distortion: A of the lattice to look for, ``(scan_y, scan_x, 2, 2)``.
        model: Learned from the scan, or from sums of its patterns.
        progress: Label of the progress bar.

    Returns:
        a, ``(scan_y, scan_x)``; 0 without a lattice, but for noise.

    Example:
        >>> from jax4dstem.lattice.model import starting_model
        >>> model = starting_model(np.diag([12.0, 12.0]), np.array([[0, 0], [0, 1], [0, -1]]), 3.0)
        >>> model = model._replace(background=1e-9 * model.background)
        >>> y, x = np.indices((64, 64))
        >>> disk = lambda at: np.hypot(y - 32, x - at) < 3.0
        >>> crystal = 1e6 * disk(32) + 1e3 * (disk(20) + disk(44))
        >>> scan = Dataset.from_array(np.array([[crystal, 1e6 * disk(32)]], np.float32))
        >>> lattices = np.tile(np.eye(2), (1, 2, 1, 1))
        >>> np.abs(lattice_amount(scan, np.full((1, 2, 2), 32.0), lattices, model)).round().tolist()
        [[1.0, 0.0]]

    Reference: ours.
    """
    places = np.asarray(center, np.float32), np.asarray(distortion, np.float32)
    found = map_intensities(dataset, *places, model, progress)
    shares, dose = np.asarray(found.share, np.float64), np.mean(found.dose)
    usual = np.asarray(model.intensity, np.float64)
    under = np.maximum(background_under(model, np.asarray(model.indices)), 1e-9)
    diffracted = np.asarray(model.indices).any(axis=1)
    noise = model.detector.noise.summed(disk_pixels(model))
    evidence = noise.evidence(dose * (usual + under), dose * under)
    weight = evidence * diffracted * np.isfinite(shares)
    whole = np.maximum((weight * usual).sum(axis=-1), 1e-12)
    amount = (weight * np.nan_to_num(shares)).sum(axis=-1) / whole
    # The background is measured on about as many pixels as it is subtracted from.
    of_shares = noise.variance(dose * (usual + 2 * under)) / dose**2
    variance = (weight**2 * of_shares).sum(axis=-1) / whole**2
    return ndimage.gaussian_filter(amount, _smoothing(float(np.sqrt(np.median(variance)))))


def _smoothing(noise: float) -> float:
    """Standard deviation, in positions, of the Gaussian that brings the noise of amounts around 1 down to what is certain."""
    patterns = (2 * CERTAIN * noise) ** 2
    return float(np.sqrt(patterns / (4 * np.pi))) if patterns > 1 else 0.0
