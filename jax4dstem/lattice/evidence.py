"""Fits that are clear enough for others to be learned from them."""

from typing import Any

import numpy as np

from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.reducers import Mean
from jax4dstem.stream import reduce_patterns

# At twice as much few patterns of a faint scan are left to learn from, and error bars cover 91 % (experiments/sensitivity).
CONVINCING = 6.0  # score of a pattern that takes part in learning
ENOUGH = 16  # such patterns: with fewer the clearest ones are used, and disks are not learned again


def convincing(fits: Any) -> np.ndarray:
    """Fits that take part in learning: clear ones, or the clearest where few are."""
    score = np.where(np.isfinite(fits.information).all(axis=(-1, -2)), fits.score, -np.inf)
    enough = min(ENOUGH, score.size)
    return score >= min(CONVINCING, np.sort(score.ravel())[-enough])


def mean_over_fits(fn: Any, sample: ScanSample, fits: Any, model: LatticeModel, bins: Any) -> Any:
    """Mean of a pattern function of center and distortion over the convincing fits."""
    starts = (np.nan_to_num(fits.center), np.nan_to_num(fits.distortion))
    chain = sample.dataset.map(fn, model, bins, per_position=starts)
    return reduce_patterns(Mean(), chain, weights=convincing(fits))
