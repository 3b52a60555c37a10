"""Middle and spread of values among which a few are far off."""

from typing import Any

import numpy as np

ONE_SIGMA = (
    15.87,
    50.0,
    84.13,
)  # percentiles of a normal distribution: its mean, and one standard deviation on either side


def middle_two_thirds(values: np.ndarray) -> tuple[Any, Any]:
    """Median and standard deviation of the columns, as the middle two thirds of their values have them.

    Args:
        values: ``(n, ...)``.

    Returns:
        Both, ``(...)``; numbers for one column.

    Example:
        >>> middle, spread = middle_two_thirds(np.append(np.random.default_rng(0).normal(5, 2, 1000), 1e9))
        >>> middle.round().item(), spread.round().item()
        (5.0, 2.0)
    """
    low, middle, high = np.percentile(values, ONE_SIGMA, axis=0)
    return middle, (high - low) / 2
