"""Whether the values of a scan are counts, or a function of counts, as for a screen that shows weak disks."""

from collections.abc import Callable

import numpy as np

# Inverses; that of log(n) is whole where that of log(1 + n) is.
INVERSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log(1 + n)": np.expm1,
    "log10(1 + n)": lambda value: 10**value - 1,
    "log2(1 + n)": lambda value: 2**value - 1,
    "sqrt(n)": np.square,
}
WHOLE = 0.02  # from whole numbers: one value in 25 is as near by chance
RESOLVED = WHOLE / 4  # rounding of the inverse, above which it is not asked
FEWEST = 6  # different values, of whose whole inverses chance makes one in 25**6
MOST = 2**18  # values that are looked at: some of every kind


def scaling_of(values: np.ndarray, precision: float) -> str:
    """The function of whole numbers that values are of, in words.

    Args:
        values: Of any shape; those that are not finite are passed over.
        precision: Relative, of the type that they were stored as.

    Returns:
        Such as ``"log(1 + n)"``; "" for none, and for multiples of whole numbers.

    Example:
        >>> counts = np.arange(40)
        >>> scaling_of(np.log10(counts + 1.0), 1e-15), scaling_of(0.02 * counts, 1e-15)
        ('log10(1 + n)', '')
    """
    looked_at = values.ravel()[:: max(1, values.size // MOST)]
    distinct = np.unique(looked_at[np.isfinite(looked_at)])
    if _are_whole(distinct / max(np.diff(distinct).min(initial=np.inf), 1e-300)):
        return ""
    for name, inverse in INVERSES.items():
        with np.errstate(over="ignore", invalid="ignore"):
            counts = inverse(distinct)
            rounding = np.abs(inverse(distinct * (1 + precision)) - counts)
        resolved = counts[np.isfinite(counts) & (rounding < RESOLVED)]
        if len(np.unique(np.round(resolved))) >= FEWEST and _are_whole(resolved):
            return name
    return ""


def _are_whole(numbers: np.ndarray) -> bool:
    return bool(np.all(np.abs(numbers - np.round(numbers)) < WHOLE))
