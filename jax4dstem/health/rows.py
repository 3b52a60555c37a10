"""Whether the rows of a scan are as long as they are taken for: an image, read as the stack that it was, repeats itself."""

import numpy as np

SHORTEST = 4  # positions: a row of fewer is no longer than what varies in it
ALIKE = 0.5  # of the mean square difference: positions of the next row differ by less, those half a row away by more


def rows_that_fit_better(image: np.ndarray) -> tuple[int, int] | None:
    r"""Rows and columns by which neighbors in the next row would be much more alike; None where the given ones are as good.

    With the values x in the order in which they were taken,

    .. math:: d(w) = \langle (x_{n + w} - x_n)^2 \rangle_n

    is small for the true length w of a row, and larger for half of it.

    Args:
        image: Any property of the positions, ``(scan_y, scan_x)``; NaN is passed over.

    Example:
        >>> image = np.tile(np.hypot(*(np.indices((12, 20)) - 5.0)), 1)
        >>> rows_that_fit_better(image), rows_that_fit_better(image.reshape(20, 12))
        (None, (12, 20))
    """
    values, width = image.ravel(), image.shape[1]
    if min(image.shape) < SHORTEST:
        return None
    given = _difference(values, width)
    lengths = [n for n in range(SHORTEST, values.size // SHORTEST + 1) if values.size % n == 0]
    found = {n: _difference(values, n) for n in lengths}
    better = [
        n
        for n, difference in found.items()
        if difference < ALIKE * min(given, _difference(values, n // 2))
    ]
    if not better:
        return None
    least = min(found[n] for n in better)  # several rows are as alike as one
    best = min(n for n in better if ALIKE * found[n] <= least)
    return values.size // best, best


def _difference(values: np.ndarray, lag: int) -> float:
    squares = (values[lag:] - values[:-lag]) ** 2
    known = np.isfinite(squares)
    return float(squares[known].mean()) if known.any() else np.inf
