"""Errors of means over a scan whose values are alike over some distance."""

import numpy as np

TILES = 4  # along each side of the scan


def tile_numbers(shape: tuple[int, int]) -> np.ndarray:
    """Number of the tile of every position, at most 4 x 4 of them, ``(scan_y, scan_x)``.

    Example:
        >>> tile_numbers((2, 8)).tolist()
        [[0, 0, 1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6, 7, 7]]
    """
    rows, cols = (np.arange(n) * min(TILES, n) // n for n in shape)
    return rows[:, None] * min(TILES, shape[1]) + cols[None, :]


def error_of_mean(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Standard deviation of the mean of maps, from the scatter between tiles of the scan.

    Args:
        values: ``(scan_y, scan_x, n)``.
        used: Boolean ``(scan_y, scan_x)``.

    Returns:
        ``(n,)``; infinite for fewer than two tiles with used positions.

    Example:
        >>> noise = np.random.default_rng(0).standard_normal((40, 40, 1))
        >>> bool(0.5 / 40 < error_of_mean(noise, np.ones((40, 40), bool))[0] < 2 / 40)
        True
    """
    tiles = tile_numbers((used.shape[0], used.shape[1]))[used]
    which, members = np.unique(tiles, return_counts=True)
    own = np.asarray(values, np.float64)[used]
    if len(which) < 2:
        return np.full(own.shape[-1], np.inf)
    means = np.stack([own[tiles == tile].mean(axis=0) for tile in which])
    weight = members / members.sum()
    # Of a weighted mean of tiles, each with its own deviation from it.
    spread = (weight[:, None] ** 2 * (means - own.mean(axis=0)) ** 2).sum(axis=0)
    return np.sqrt(spread * len(which) / (len(which) - 1))
