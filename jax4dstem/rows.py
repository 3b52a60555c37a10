"""Maps over the scan as the rows that scikit-learn works on, and back: the only place that reshapes one to the other."""

import numpy as np


def known_positions(maps: np.ndarray) -> np.ndarray:
    """Positions of a map whose values are all finite.

    Args:
        maps: ``(scan_y, scan_x, n)``.

    Returns:
        Boolean ``(scan_y, scan_x)``.

    Example:
        >>> known_positions(np.array([[[0.0, 1.0], [np.nan, 1.0]]])).tolist()
        [[True, False]]
    """
    return np.asarray(np.isfinite(maps).all(axis=-1))


def evenly_spaced(size: int, most: int) -> np.ndarray:
    """Numbers of at most so many rows out of ``size``, evenly spaced, first and last among them.

    Example:
        >>> evenly_spaced(9, 3).tolist(), evenly_spaced(2, 3).tolist()
        ([0, 4, 8], [0, 1])
    """
    return np.linspace(0, size - 1, min(size, most)).astype(int)


def to_rows(maps: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values of the valid positions of a map as rows.

    Args:
        maps: ``(scan_y, scan_x, ...)``.
        valid: Boolean ``(scan_y, scan_x)``.

    Returns:
        ``(n, ...)``, row by row of the scan.

    Example:
        >>> to_rows(np.arange(4).reshape(2, 2), np.array([[True, False], [True, True]])).tolist()
        [0, 2, 3]
    """
    return np.asarray(maps)[valid]


def to_map(rows: np.ndarray, valid: np.ndarray, missing: float = np.nan) -> np.ndarray:
    """A map with the rows at the valid positions; the inverse of `to_rows`.

    Args:
        rows: ``(n, ...)``.
        valid: Boolean ``(scan_y, scan_x)`` with n positions.
        missing: Value elsewhere.

    Returns:
        ``(scan_y, scan_x, ...)`` of the rows' type.

    Example:
        >>> to_map(np.array([5, 7]), np.array([[True, False], [False, True]]), -1).tolist()
        [[5, -1], [-1, 7]]
    """
    rows = np.asarray(rows)
    maps = np.full((*valid.shape, *rows.shape[1:]), missing, rows.dtype)
    maps[valid] = rows
    return maps
