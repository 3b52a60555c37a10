"""Is the data usable, what does the detector look like, where is the beam on average."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import find_bad_pixels, repair_pixels
from jax4dstem.errors import InputError
from jax4dstem.fields import DETECTOR, SCAN, Result, entry
from jax4dstem.patterns.align import find_direct_beam
from jax4dstem.patterns.detectors import count_invalid, total_counts
from jax4dstem.reducers import Moments
from jax4dstem.stream import map_patterns, reduce_patterns


@dataclass(frozen=True)
class Survey(Result):
    """What a first look at a scan tells.

    Attributes:
        invalid: Pixels of every pattern that are no numbers; all of them for a blank pattern.
        dose: Sum of every pattern; NaN where it is invalid.
        mean: Mean raw pattern.
        std: Standard deviation of every raw pixel over the scan.
        bad_pixels: Hot and dead pixels.
        center: Direct beam of the mean pattern, (y, x) in px.
        radius: Its radius in the mean pattern in px, descan included.
    """

    invalid: np.ndarray = entry(
        SCAN, "px", "pixels that are NaN or infinite; all for a blank pattern"
    )
    dose: np.ndarray = entry(SCAN, "counts", "sum of each pattern", "images/dose")
    mean: np.ndarray = entry(DETECTOR, "counts", "mean raw pattern", "detector/mean")
    std: np.ndarray = entry(
        DETECTOR, "counts", "standard deviation over the scan, raw", "detector/std"
    )
    bad_pixels: np.ndarray = entry(DETECTOR, "", "hot and dead pixels", "detector/bad_pixels")
    center: np.ndarray = entry("yx", "px", "direct beam of the mean pattern (y, x)", "beam/center")
    radius: float = entry(
        "", "px", "radius at half maximum in the mean pattern, descan included", "beam/mean_radius"
    )

    @property
    def valid(self) -> np.ndarray:
        """Positions whose pattern can be used, ``(scan_y, scan_x)``."""
        return self.invalid == 0

    def repaired(self, scan: Dataset) -> Dataset:
        """The scan with its bad pixels replaced by their neighbors."""
        return scan.map(repair_pixels, self.bad_pixels) if self.bad_pixels.any() else scan


def survey_scan(
    scan: Dataset, *, exclude_invalid: bool = True, find_bad: bool = True, contrast: float = 5.0
) -> Survey:
    """Look at every pattern once, and at the detector's mean and spread over the scan.

    Args:
        scan: Raw patterns.
        exclude_invalid: Whether blank patterns, and those with NaN or infinite pixels, are left out; otherwise they are
            an error.
        find_bad: Whether hot and dead pixels are looked for.
        contrast: How far a hot pixel stands out from its neighbors.

    Returns:
        Validity, dose, detector statistics, and the mean direct beam.

    Raises:
        InputError: No pattern is valid, or one is not and ``exclude_invalid`` is False.

    Example:
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 16, 16))
        >>> counts[:, :, 7:10, 6:9] += 50
        >>> survey_scan(Dataset.from_array(counts)).center.round().tolist()
        [8.0, 7.0]
    """
    found = map_patterns(_validity, scan, progress="checking patterns")
    invalid = found["invalid"]
    valid = invalid == 0
    if not exclude_invalid and not valid.all():
        raise InputError(_describe_invalid(invalid, found["blank"]))
    if not valid.any():
        raise InputError("every pattern is blank or has NaN or infinite pixels")
    raw = reduce_patterns(Moments(), scan, weights=valid, progress="detector statistics")
    bad = np.zeros(raw.mean.shape, bool)
    if find_bad:
        bad = find_bad_pixels(raw.mean, raw.std, int(valid.sum()), contrast=contrast)
    beam = find_direct_beam(np.asarray(repair_pixels(jnp.asarray(raw.mean), jnp.asarray(bad))))
    dose = np.where(valid, found["dose"], np.nan)
    return Survey(invalid, dose, raw.mean, raw.std, bad, beam.center, beam.radius)


def _validity(pattern: Any) -> dict[str, Any]:
    return {
        "invalid": count_invalid(pattern),
        "blank": jnp.all(pattern == 0),
        "dose": total_counts(pattern),
    }


def _describe_invalid(invalid: np.ndarray, blank: np.ndarray) -> str:
    which = np.argwhere(invalid > 0)
    y, x = which[0]
    what = "is all zero" if blank[y, x] else f"has {invalid[y, x]} NaN or infinite pixels"
    return (
        f"{len(which)} of {invalid.size} patterns are invalid: the one at scan position "
        f'({y}, {x}) {what}; exclude them with input.invalid_patterns = "exclude"'
    )
