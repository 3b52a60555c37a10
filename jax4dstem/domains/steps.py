"""Steps of a scan's features across every position: positions on a border of two domains are told by them."""

import numpy as np
from scipy import ndimage

from jax4dstem.rows import to_map

REACH = 2  # positions on either side: beyond them a probe on a border sees one domain alone
DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1))  # (y, x)


def steps_across(points: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean features on one side of every position minus those on the other, in four directions.

    Args:
        points: Features of the valid positions, ``(n, d)``.
        valid: Where they are, boolean ``(scan_y, scan_x)``.

    Returns:
        ``(directions, n, d)``. Outside the scan the rim goes on.

    Example:
        >>> step = np.repeat([[0.0, 1.0]], 6, axis=0).repeat(4, axis=1)
        >>> steps_across(step.reshape(-1, 1), np.ones((6, 8), bool))[1, 24:32, 0].round(1).tolist()  # along x, in a row
        [0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    maps = to_map(points, valid, 0.0)
    y, x = np.indices((2 * REACH + 1,) * 2) - REACH
    squares = [along[0] * y + along[1] * x for along in DIRECTIONS]
    means = [[_mean_over(maps, valid, sign * square > 0) for sign in (1, -1)] for square in squares]
    return np.stack([(after - before)[valid] for after, before in means])


def _mean_over(maps: np.ndarray, valid: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Mean over the valid positions of a square around each."""
    weights = around.astype(float)
    number = ndimage.correlate(valid.astype(float), weights, mode="nearest")
    total = ndimage.correlate(maps, weights[..., None], mode="nearest")
    return total / np.maximum(number, 1)[..., None]
