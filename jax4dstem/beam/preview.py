"""A first look at a scan of any kind: its mean pattern and a dark field, before anything is known of it."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset, check_dataset
from jax4dstem.fields import DETECTOR, SCAN, Result, entry
from jax4dstem.patterns.align import find_direct_beam
from jax4dstem.patterns.detectors import annular_dark_field
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import FloatPattern, Pattern

PER_SIDE = 16  # rows and columns whose patterns give the mean: a beam stands out of 256
BESIDE = 2.0  # radii of the direct beam from which on the dark field counts, as in `measure_images`


@dataclass(frozen=True)
class ScanPreview(Result):
    """What one look at a scan shows.

    Attributes:
        mean: Mean of evenly spaced patterns, ``(det_y, det_x)``.
        dark_field: Counts beside the mean direct beam, ``(scan_y, scan_x)``.
        center: Of that beam, (y, x) in px.
        inner: Radius from which on the dark field counts, in px.
        n_mean: Patterns in the mean.
    """

    mean: np.ndarray = entry(DETECTOR, "counts", "mean of {n_mean} evenly spaced patterns")
    dark_field: np.ndarray = entry(SCAN, "counts", "counts from {inner:.1f} px beside the beam on")
    center: np.ndarray = entry("yx", "px", "direct beam of the mean pattern (y, x)")
    inner: float = entry("", "px", "inner radius of the dark field")
    n_mean: int = entry("", "patterns", "patterns in the mean")


def preview_scan(scan: Dataset) -> ScanPreview:
    """Mean pattern and dark field of a scan as its chain makes it, in one pass.

    The beam is that of the mean of up to 256 patterns, and stands still: `align_scan` and `measure_images` follow it.

    Args:
        scan: The patterns; pixels that are not finite count nothing.

    Returns:
        Both images.

    Raises:
        InputError: There are no counts.

    Example:
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 32, 32))
        >>> counts[:, :, 14:18, 13:17] += 50
        >>> seen = preview_scan(Dataset.from_array(counts))
        >>> seen.dark_field.shape, seen.center.round(1).tolist(), seen.n_mean
        ((3, 4), [15.5, 14.5], 12)
    """
    check_dataset(scan, "preview_scan")
    clean = scan.map(_or_zero)
    rows, cols = (
        np.unique(np.linspace(0, size - 1, min(PER_SIDE, size)).astype(int)).tolist()
        for size in scan.scan_shape
    )
    mean = np.asarray(reduce_patterns(Mean(), clean.sample_scan(rows, cols)))
    beam = find_direct_beam(mean)
    inner = BESIDE * beam.radius
    outer = float(np.hypot(*mean.shape))  # all of the detector
    center = beam.center.astype(np.float32)
    dark = map_patterns(annular_dark_field, clean, center, inner, outer, progress="dark field")
    return ScanPreview(mean, dark, beam.center, inner, len(rows) * len(cols))


def _or_zero(pattern: Pattern) -> FloatPattern:
    return jnp.nan_to_num(pattern.astype(float), posinf=0.0, neginf=0.0)
