"""Where the direct beam is in every pattern, and how it drifts over the scan (descan)."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jax4dstem.beam.survey import Survey
from jax4dstem.beam.symmetry import has_partners, is_hidden, symmetric_centers, symmetry_of
from jax4dstem.dataset import Dataset, check_dataset
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, Result, entry
from jax4dstem.patterns.align import (
    LocateDirectBeam,
    center_pattern,
    find_direct_beam,
    fit_descan,
    middle,
)
from jax4dstem.reducers import Mean
from jax4dstem.stream import map_patterns, reduce_patterns

MANY_OUTLIERS = 0.01  # share of positions whose direct beam was lost
WITHIN = 2.4477  # standard deviations within which 95 % of errors in a plane lie: the root of chi-squared's quantile
LOCKING = 0.08  # px: a parabola on a triangular peak errs by 0.04, simulated beam stops by up to twice that
MISPLACED = 1.0  # px between a given center and the beam that are told: a descan that is left out moves the mean by less
NEAR = 3.0  # radii of the beam: how far from a given center it is looked for; reflections mostly begin there


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
        hidden: Whether the beam lies behind masked pixels, such as a beam stop.
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
    hidden: bool = entry(
        "", "", "the direct beam lies behind masked pixels", "beam/hidden", default=False
    )


def align_scan(
    scan: Dataset,
    survey: Survey,
    *,
    search: float | None = None,
    descan_order: int = 2,
    center: np.ndarray | None = None,
    align: bool = True,
) -> BeamPositions:
    r"""Center of the direct beam in every pattern, by two passes and a smooth descan surface.

    The mean beam is smeared by the descan; the mean of the patterns centered by a first pass gives the beam's own radius,
    which the second uses. Measured centers and the surface are combined by their errors (`fit_descan`). Where a
    reflection outshines the direct beam in many patterns, it is looked for again near where the surface says it must be.

    What was found is compared with where each pattern is its own inverse (`friedel_center`), which needs no direct beam: a
    clear contradiction moves the center there, and behind masked pixels (a beam stop) that is the only way.

    Args:
        scan: Raw patterns.
        survey: Of this scan.
        search: How far from the mean beam a pattern's beam may be, px; None takes a quarter of the detector, or three radii
            of the beam where the center is given.
        descan_order: Degree of the surface in the scan coordinates.
        center: Where the beam is, (y, x) in px, or of every position ``(scan_y, scan_x, 2)``; None finds it.
        align: Whether every pattern's own center is looked for; otherwise it is ``center``, or that of the mean pattern.

    Returns:
        Centers, their doubt, surface, and the radius of the direct beam.

    Raises:
        InputError: No direct beam could be located in any pattern, or ``center`` has another shape.

    Example:
        >>> from jax4dstem.beam import survey_scan
        >>> y, x = np.indices((32, 32))
        >>> beams = [np.hypot(y - 16 - 0.2 * i, x - 15) < 3 for i in range(12)]
        >>> scan = Dataset.from_array(np.array(beams, np.float32).reshape(3, 4, 32, 32))
        >>> align_scan(scan, survey_scan(scan)).center.shape
        (3, 4, 2)
    """
    check_dataset(scan, "align_scan")
    expected = survey.center if center is None else np.asarray(center, np.float64)
    if expected.shape not in ((2,), (*scan.scan_shape, 2)):
        raise InputError(
            f"the centers have the shape {expected.shape}; expected (y, x), or one per position"
        )
    if not align:
        return _as_told(scan, survey, expected, center is not None)
    usable = ~survey.detector.bad_pixels
    whole = min(scan.pattern_shape) / 4
    if center is None:
        symmetric = symmetry_of(survey.mean_electrons, usable, expected, np.inf, survey.radius)
        if is_hidden(np.asarray(symmetric.center), usable):
            return _hidden(
                scan, survey, np.asarray(symmetric.center), search or whole, descan_order
            )
        return _seen(scan, survey, expected, search or whole, descan_order)
    search = search or NEAR * survey.radius
    if is_hidden(expected.reshape(-1, 2).mean(axis=0), usable):
        return _hidden(scan, survey, expected, search, descan_order)
    return _seen(scan, survey, expected, search, descan_order)


def _as_told(scan: Dataset, survey: Survey, center: np.ndarray, given: bool) -> BeamPositions:
    """The same center in every pattern, or the given map of them; how far off it is nobody has looked."""
    centers = np.broadcast_to(center, (*scan.scan_shape, 2)).astype(np.float32)
    middle = centers.reshape(-1, 2).mean(axis=0)
    hidden = is_hidden(middle, ~survey.detector.bad_pixels)
    apart = float(np.hypot(*(middle - survey.center)))
    word = (
        "" if given else "every pattern has the center of the mean pattern: alignment was left out"
    )
    if apart > MISPLACED and not hidden:
        y, x = survey.center
        word = f"the center that is given lies {apart:.1f} px from the brightest disk, ({y:.1f}, {x:.1f})"
    return BeamPositions(
        centers,
        np.full_like(centers, np.nan),
        centers,
        np.zeros(scan.scan_shape, bool),
        survey.radius,
        np.full(scan.scan_shape, np.nan, np.float32),
        word,
        hidden,
    )


def _seen(
    scan: Dataset, survey: Survey, expected: np.ndarray, search: float, order: int
) -> BeamPositions:
    """Centers of a beam that is seen, unless the patterns' symmetry contradicts."""
    clean, valid = survey.repaired(scan), survey.valid
    first = _measure(clean, expected, survey.radius, search, valid)
    own = _mean_around(clean, first, valid)
    radius = find_direct_beam(own, blur=0.5).radius
    measured = _measure(clean, expected, radius, search, valid)
    # A centroid of n electrons in a disk is off by half of its radius over the root of n; about half of the dose is in it.
    noise = radius / 2 / np.sqrt(np.maximum(np.nan_to_num(survey.dose) / 2, 1))
    descan = fit_descan(measured, order=order, noise=noise)
    if descan.outlier.mean() > MANY_OUTLIERS:
        residual = np.linalg.norm(measured - descan.surface, axis=-1)[~descan.outlier]
        near = 2 * radius + 3 * 1.4826 * float(np.median(residual))
        measured = _measure(clean, descan.surface, radius, min(near, search), valid)
        descan = fit_descan(measured, order=order, noise=noise)
    apart = max(radius, 1.0)
    wrong = np.zeros(scan.scan_shape, bool)
    if has_partners(descan.center.reshape(-1, 2).mean(axis=0), scan.pattern_shape):
        symmetric = symmetric_centers(scan, survey, descan.center, search, apart)
        wrong = valid & symmetric.contradicts(descan.center, apart)
    if wrong.any():
        place = np.where(wrong[..., None], symmetric.center, descan.center)
        measured = _measure(clean, place, radius, apart, valid)
        far = ~wrong & symmetric.is_far(descan.center, apart)  # another disk as well, or just noise
        descan = fit_descan(np.where(far[..., None], np.nan, measured), order=order, noise=noise)
        measured = _measure(clean, descan.center, radius, apart, valid)
        descan = fit_descan(measured, order=order, noise=noise)
        own = _mean_around(clean, descan.center, valid)
    offset, word = _systematic(own, survey, descan.center, apart)
    torn, jumps = _torn(descan.center[valid], descan.surface[valid], apart)
    offset, word = max(offset, torn), word or jumps
    if wrong.mean() > MANY_OUTLIERS and not word:
        word = (
            f"another disk outshines it in {100 * wrong.mean():.0f} % of the patterns, "
            "whose center is that of their symmetry"
        )
    doubt = _doubt(descan.center, measured, noise, descan.outlier, offset)
    center, surface = descan.center.astype(np.float32), descan.surface.astype(np.float32)
    return BeamPositions(center, measured, surface, descan.outlier, radius, doubt, word)


def _hidden(
    scan: Dataset, survey: Survey, expected: np.ndarray, search: float, order: int
) -> BeamPositions:
    """Centers of a beam behind masked pixels: where each pattern is its own inverse."""
    place = np.broadcast_to(expected, (*scan.scan_shape, 2))
    found = symmetric_centers(scan, survey, place, search, survey.radius, whole=True)
    measured = np.where(survey.valid[..., None], found.center, np.nan).astype(np.float32)
    # Peaks of the correlation are drawn to the grid, so that neighbors err alike.
    noise = np.hypot(_scatter(measured), LOCKING)
    descan = fit_descan(measured, order=order, noise=noise)
    own = _mean_around(survey.repaired(scan), descan.center, survey.valid)
    radius = _reflection_radius(own, survey, descan.center)
    offset, word = _systematic(own, survey, descan.center, max(radius, 1.0))
    doubt = _doubt(descan.center, measured, noise, descan.outlier, offset)
    how = f"its center is that of the patterns' symmetry, to {float(np.median(doubt)):.2g} px"
    center, surface = descan.center.astype(np.float32), descan.surface.astype(np.float32)
    word = f"masked pixels hide it; {how}" + (f"; {word}" if word else "")
    return BeamPositions(center, measured, surface, descan.outlier, radius, doubt, word, True)


def mean_beam(
    scan: Dataset, survey: Survey, beam: BeamPositions, among: np.ndarray | None = None
) -> np.ndarray:
    """Mean of the patterns in electrons, each moved so that its direct beam lies on the middle pixel: a picture of the probe.

    Args:
        scan: Raw patterns.
        survey: Of this scan.
        beam: Of this scan.
        among: Positions that are taken, boolean ``(scan_y, scan_x)``; None for all.

    Returns:
        ``(det_y, det_x)``; bad pixels are repaired.

    Raises:
        InputError: No position is left.

    Example:
        >>> from jax4dstem.beam import survey_scan
        >>> y, x = np.indices((32, 32))
        >>> beams = [np.hypot(y - 16 - 0.2 * i, x - 15) < 3 for i in range(12)]
        >>> scan = Dataset.from_array(np.array(beams, np.float32).reshape(3, 4, 32, 32))
        >>> survey = survey_scan(scan)
        >>> picture = mean_beam(scan, survey, align_scan(scan, survey))
        >>> picture.shape, round(float(picture[16, 16]), 3)
        ((32, 32), 1.0)
    """
    valid = survey.valid if among is None else survey.valid & among
    if not valid.any():
        raise InputError("no position is left to take the probe from")
    return _mean_around(survey.repaired(scan), beam.center, valid)


def _mean_around(clean: Dataset, center: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean of the patterns, each moved so that its center lies on the middle pixel."""
    place = np.nan_to_num(center).astype(np.float32)
    centered = clean.map(center_pattern, per_position=(place,))
    return np.asarray(reduce_patterns(Mean(), centered, weights=valid, progress="direct beam"))


def _systematic(
    own: np.ndarray, survey: Survey, center: np.ndarray, apart: float
) -> tuple[float, str]:
    """How far the mean of the centered patterns is from being its own inverse about their middle, px; a word where far."""
    place = center.reshape(-1, 2).mean(axis=0)
    edge = float(min(*place, *(np.array(own.shape) - 1 - place)))
    if edge < apart:
        return (
            apart - edge,
            f"the detector's edge cuts it: the center may be {apart - edge:.1f} px off",
        )
    if not has_partners(place, own.shape):
        return 0.0, ""
    here = np.asarray(middle(own.shape), np.float64)
    usable = _always_usable(~survey.detector.bad_pixels, here - center)
    found = symmetry_of(own, usable, here, np.inf, apart)
    y, x = found.center - here
    offset = float(np.hypot(y, x))
    if offset <= apart:
        return offset, ""
    # The center may also be the partner of the disk that was taken for it, as far beyond.
    return 2 * offset, (
        f"the patterns are more symmetric about a point {y:+.1f}, {x:+.1f} px (y, x) from the disk that is taken for it"
    )


def _torn(center: np.ndarray, surface: np.ndarray, apart: float) -> tuple[float, str]:
    """How far centers ``(n, 2)`` may be off as many jump from the smooth surface, which no descan does, px; a word."""
    jump = np.linalg.norm(center - surface, axis=-1)
    share = float((jump > apart).mean())
    if share <= MANY_OUTLIERS:
        return 0.0, ""
    return 2 * float(jump.max()), (  # to both sides of the surface
        f"it jumps by more than its radius at {100 * share:.0f} % of the positions: other disks are taken for it"
    )


def _reflection_radius(own: np.ndarray, survey: Survey, center: np.ndarray) -> float:
    """Radius of the brightest reflection above its ring's median: disks are all as large as the hidden beam."""
    here = np.asarray(middle(own.shape), np.float64)
    usable = _always_usable(~survey.detector.bad_pixels, here - center)
    y, x = np.indices(own.shape)
    ring = np.hypot(y - here[0], x - here[1]).astype(int)
    rings = np.unique(ring[usable])
    medians = ndimage.median(own, np.where(usable, ring, -1), rings)
    above = own - np.interp(ring, rings, medians)
    return find_direct_beam(np.where(usable, np.maximum(above, 0), 0), blur=0.5).radius


def _always_usable(usable: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Pixels of the mean of moved patterns that no pattern has from masked pixels, or from outside of the detector."""
    low, high = (
        np.array([edge(shifts[..., axis]) for axis in (0, 1)])
        for edge in (lambda v: np.floor(v.min()), lambda v: np.ceil(v.max()))
    )
    corners = [(low[0], low[1]), (low[0], high[1]), (high[0], low[1]), (high[0], high[1])]
    moved = [ndimage.shift(usable.astype(float), corner, order=0) > 0.5 for corner in corners]
    return np.logical_and.reduce(moved)


def _scatter(measured: np.ndarray) -> np.ndarray:
    """Robust standard deviation of centers among their neighbors, along an axis, around every position."""
    known = np.nan_to_num(measured)
    residual = abs(known - ndimage.median_filter(known, size=(3, 3, 1), mode="nearest"))
    return 1.4826 * ndimage.median_filter(residual, size=(5, 5, 1), mode="nearest").max(axis=-1)


def _doubt(
    center: np.ndarray, measured: np.ndarray, noise: np.ndarray, outlier: np.ndarray, offset: float
) -> np.ndarray:
    """Distance within which 95 % of the centers are right, from shot noise, scatter among neighbors and asymmetry, px."""
    sigma = np.maximum(noise, _scatter(measured))
    spread = 1.4826 * np.median(abs(measured - center)[~outlier]) if (~outlier).any() else np.inf
    sigma = np.where(outlier, np.maximum(2 * sigma, spread), sigma)
    return np.hypot(WITHIN * sigma, offset).astype(np.float32)


def _measure(
    scan: Dataset, expected: np.ndarray, radius: float, search: float, valid: np.ndarray
) -> np.ndarray:
    place = np.broadcast_to(expected, (*scan.scan_shape, 2)).astype(np.float32)
    locate = LocateDirectBeam.of_radius(radius)
    found = map_patterns(locate, scan, radius, search, per_position=(place,), progress="aligning")
    return np.where(valid[..., None], found, np.nan).astype(np.float32)
