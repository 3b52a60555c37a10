"""Where the direct beam is in every pattern, and how it drifts over the scan (descan)."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.beam.survey import Survey
from jax4dstem.dataset import Dataset
from jax4dstem.fields import SCAN, Result, entry
from jax4dstem.patterns.align import align_direct_beam, center_pattern, find_direct_beam, fit_descan
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns

MANY_OUTLIERS = 0.01  # share of positions whose direct beam was lost


@dataclass(frozen=True)
class BeamPositions(Result):
    """The direct beam of every pattern.

    Attributes:
        center: Best estimate, (y, x) in px, ``(scan_y, scan_x, 2)``: measured where that is precise, from the surface or
            the neighborhood elsewhere.
        measured: As found in the pattern alone, the same shape; NaN where it was not.
        surface: Smooth descan surface through the measured ones, the same shape.
        outlier: Positions whose center is taken from their neighborhood, boolean ``(scan_y, scan_x)``.
        radius: Of the direct beam at half maximum, in px.
        doubt: How far off each center may be, in px; 95 % are nearer.
        word: What is doubtful in all of the scan, in words; "" for nothing.
    """

    center: np.ndarray = entry(f"{SCAN} yx", "px", "center of the direct beam (y, x)")
    measured: np.ndarray = entry(
        f"{SCAN} yx", "px", "measured center of the direct beam (y, x)", "descan/measured"
    )
    surface: np.ndarray = entry(
        f"{SCAN} yx", "px", "fitted descan surface (y, x)", "descan/surface"
    )
    outlier: np.ndarray = entry(
        SCAN, "", "positions whose center is taken from their neighborhood", "descan/outlier"
    )
    radius: float = entry("", "px", "radius of the direct beam at half maximum", "beam/radius")
    doubt: np.ndarray | None = entry(
        SCAN, "px", "how far off the center may be: 95 % are nearer", "beam/doubt", default=None
    )
    word: str = entry("", "", "what is doubtful of the direct beam", "beam/word", default="")


def align_scan(
    scan: Dataset, survey: Survey, *, search: float | None = None, descan_order: int = 2
) -> BeamPositions:
    r"""Center of the direct beam in every pattern, by two passes and a smooth descan surface.

    The mean beam is smeared by the descan; the mean of the patterns centered by a first pass gives the beam's own radius,
    which the second uses. Measured centers and the surface are combined by their errors (`fit_descan`). Where a
    reflection outshines the direct beam in many patterns, it is looked for again near where the surface says it must be.

    Args:
        scan: Raw patterns.
        survey: Of this scan.
        search: How far from the mean beam a pattern's beam may be, px; None takes a quarter of the detector.
        descan_order: Degree of the surface in the scan coordinates.

    Returns:
        Centers, surface, and the radius of the direct beam.

    Raises:
        InputError: No direct beam could be located in any pattern.

    Example:
        >>> from jax4dstem.beam import survey_scan
        >>> y, x = np.indices((32, 32))
        >>> beams = [np.hypot(y - 16 - 0.2 * i, x - 15) < 3 for i in range(12)]
        >>> scan = Dataset.from_array(np.array(beams, np.float32).reshape(3, 4, 32, 32))
        >>> align_scan(scan, survey_scan(scan)).center.shape
        (3, 4, 2)
    """
    clean, valid = survey.repaired(scan), survey.valid
    search = search or min(scan.pattern_shape) / 4
    first = _measure(clean, survey.center, survey.radius, search, valid)
    centered = clean.map(center_pattern, per_position=(np.nan_to_num(first),))
    own = reduce_patterns(Mean(), centered, weights=valid, progress="direct beam")
    radius = find_direct_beam(own, blur=0.5).radius
    measured = _measure(clean, survey.center, radius, search, valid)
    # A centroid of n electrons in a disk is off by half of its radius over the root of n; about half of the dose is in it.
    noise = radius / 2 / np.sqrt(np.maximum(np.nan_to_num(survey.dose) / 2, 1))
    descan = fit_descan(measured, order=descan_order, noise=noise)
    if descan.outlier.mean() > MANY_OUTLIERS:
        residual = np.linalg.norm(measured - descan.surface, axis=-1)[~descan.outlier]
        near = 2 * radius + 3 * 1.4826 * float(np.median(residual))
        measured = _measure(clean, descan.surface, radius, min(near, search), valid)
        descan = fit_descan(measured, order=descan_order, noise=noise)
    center, surface = descan.center.astype(np.float32), descan.surface.astype(np.float32)
    return BeamPositions(center, measured, surface, descan.outlier, radius)


def _measure(
    scan: Dataset, expected: np.ndarray, radius: float, search: float, valid: np.ndarray
) -> np.ndarray:
    place = np.broadcast_to(expected, (*scan.scan_shape, 2)).astype(np.float32)
    found = map_patterns(
        align_direct_beam, scan, radius, search, per_position=(place,), progress="aligning"
    )
    return np.where(valid[..., None], found, np.nan).astype(np.float32)
