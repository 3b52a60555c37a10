"""Where counts are clipped, told by the direct beam."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jax4dstem.detector import Detector
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Pattern

SHARED = 0.1  # of the patterns with the same largest value, from which on it is a limit
FLAT = 0.3  # of the direct beam's pixels at that value; at least more than four, which chance gives faint beams


def find_saturation(sample: ScanSample, radius: float, detector: Detector) -> Detector:
    """The detector with its saturation: where it is not known, the value at which the direct beam is clipped.

    A beam is clipped when its patterns share their largest value, each in many pixels.

    Args:
        sample: Patterns as raw counts.
        radius: Of the direct beam in px.
        detector: Its mask is used; a finite saturation is kept.
    """
    if np.isfinite(detector.saturation):
        return detector
    peaks = map_patterns(_peak, sample.dataset, detector)
    peak, ties = np.asarray(peaks[0]), np.asarray(peaks[1])
    common = peak == peak.max()
    clipped = common.mean() > SHARED and np.median(ties[common]) > max(4, FLAT * np.pi * radius**2)
    return detector._replace(saturation=float(peak.max())) if clipped else detector


def _peak(pattern: Pattern, detector: Detector) -> Any:
    counts = jnp.where(detector.known(pattern), pattern, -jnp.inf)
    largest = jnp.max(counts)
    return largest, jnp.sum(counts == largest)
