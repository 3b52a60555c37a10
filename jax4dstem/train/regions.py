"""Validation data by region of the scan: neighbors share their grain, so random positions would leak."""

import numpy as np

BLOCKS = 8  # of the scan along its longer side


def validation_region(
    scan_shape: tuple[int, int], fraction: float, seed: int = 0, among: np.ndarray | None = None
) -> np.ndarray:
    """Whole blocks of the scan that hold about ``fraction`` of the positions.

    Args:
        scan_shape: ``(scan_y, scan_x)``.
        fraction: In [0, 1).
        seed: Of the choice.
        among: Boolean ``(scan_y, scan_x)``: positions that count; default all.

    Returns:
        Boolean ``(scan_y, scan_x)``: the positions to validate on.

    Example:
        >>> bool(0.1 < validation_region((32, 32), 0.2).mean() < 0.3)
        True
    """
    among = np.ones(scan_shape, bool) if among is None else among
    side = max(1, -(-max(scan_shape) // BLOCKS))
    y, x = np.indices(scan_shape) // side
    block = y * (x.max() + 1) + x
    region = np.zeros(scan_shape, bool)
    for chosen in np.random.default_rng(seed).permutation(np.unique(block[among])):
        if (region & among).sum() >= fraction * among.sum():
            break
        region |= block == chosen
    return region & among
