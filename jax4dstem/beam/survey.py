"""Is the data usable, what does the detector look like, where is the beam on average."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.beam.detector import DetectorOptions, ScanDetector, find_noise
from jax4dstem.dataset import Dataset, check_dataset
from jax4dstem.detector import find_bad_pixels, repair_pixels
from jax4dstem.errors import InputError
from jax4dstem.fields import DETECTOR, SCAN, Result, entry, group
from jax4dstem.lattice.sample import sample_scan
from jax4dstem.lattice.saturation import find_saturation
from jax4dstem.patterns.align import find_direct_beam
from jax4dstem.patterns.detectors import count_invalid, total_counts
from jax4dstem.reducers import Mean, Moments
from jax4dstem.stream import map_patterns, reduce_patterns

KNOWN = 0.5  # share of the patterns in which a pixel has a number; below, it is bad


@dataclass(frozen=True)
class Survey(Result):
    """What a first look at a scan tells.

    Attributes:
        invalid: Pixels of every pattern that are no numbers; all of them for a blank pattern; ``(scan_y, scan_x)``.
        dose: Electrons of every pattern, ``(scan_y, scan_x)``; NaN where it is invalid.
        mean: Mean raw pattern, ``(det_y, det_x)``.
        std: Standard deviation of every raw pixel over the scan, ``(det_y, det_x)``.
        detector: How counts become electrons, and which pixels cannot be used.
        center: Direct beam of the mean pattern, (y, x) in px.
        radius: Its radius in the mean pattern in px, descan included.
        masked: Positions that a scan mask leaves out; None without one.

    Example:
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 16, 16))
        >>> counts[0, 0] = 0
        >>> survey = survey_scan(Dataset.from_array(counts))
        >>> survey.valid.sum().item(), survey.invalid[0, 0].item()  # a blank pattern
        (11, 256)
    """

    invalid: np.ndarray = entry(
        SCAN, "px", "pixels that are NaN or infinite; all for a blank pattern"
    )
    dose: np.ndarray = entry(SCAN, "electrons", "sum of each pattern", "images/dose")
    mean: np.ndarray = entry(DETECTOR, "counts", "mean raw pattern", "detector/mean")
    std: np.ndarray = entry(
        DETECTOR, "counts", "standard deviation over the scan, raw", "detector/std"
    )
    detector: ScanDetector = group("detector")
    center: np.ndarray = entry("yx", "px", "direct beam of the mean pattern (y, x)", "beam/center")
    radius: float = entry(
        "", "px", "radius at half maximum in the mean pattern, descan included", "beam/mean_radius"
    )

    masked: np.ndarray | None = entry(
        SCAN, "", "positions that the scan mask leaves out", "masked", default=None
    )

    @property
    def valid(self) -> np.ndarray:
        """Positions whose pattern can be used, ``(scan_y, scan_x)``."""
        usable = self.invalid == 0
        return usable if self.masked is None else usable & ~self.masked.astype(bool)

    @property
    def mean_electrons(self) -> np.ndarray:
        """Mean pattern in electrons."""
        return (np.asarray(self.mean) - self.detector.offset) / self.detector.gain

    def electrons(self, scan: Dataset) -> Dataset:
        """The scan in electrons, as fits take it, with `ScanDetector.of_electrons`; NaN where it is masked."""
        return self.detector.electrons(scan if self.masked is None else scan.without(self.masked))

    def repaired(self, scan: Dataset) -> Dataset:
        """The scan in electrons, its bad pixels replaced by their neighbors."""
        bad = self.detector.bad_pixels
        electrons = self.detector.electrons(scan)
        return electrons.map(repair_pixels, bad) if bad.any() else electrons


def survey_scan(
    scan: Dataset,
    *,
    exclude_invalid: bool = True,
    find_bad: bool = True,
    contrast: float = 5.0,
    detector: DetectorOptions | None = None,
    scan_mask: np.ndarray | None = None,
) -> Survey:
    """Look at every pattern, at the detector's mean and spread over the scan, and at how neighboring patterns differ.

    Args:
        scan: Raw patterns.
        exclude_invalid: Whether blank patterns, and those with NaN or infinite pixels, are left out; otherwise they are
            an error. Positions of which the file holds no pattern are always left out. A pixel without a number in most
            patterns is no matter of the patterns, but a bad one.
        find_bad: Whether hot, stuck and dead pixels are looked for.
        contrast: How far a hot pixel stands out from its neighbors.
        detector: What is known of the detector; the rest is found. Its mask is added to that of the file.
        scan_mask: Positions that are left out, True, ``(scan_y, scan_x)``.

    Returns:
        Validity, dose, detector statistics, and the mean direct beam.

    Raises:
        InputError: No pattern is valid, or one is not and ``exclude_invalid`` is False; or the mask has another shape; or
            there are no electrons above the offset.

    Example:
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 16, 16))
        >>> counts[:, :, 7:10, 6:9] += 50
        >>> survey_scan(Dataset.from_array(counts)).center.round().tolist()
        [8.0, 7.0]
    """
    check_dataset(scan, "survey_scan")
    options = detector or DetectorOptions()
    bad = _known_bad(scan, options)
    if scan_mask is not None and scan_mask.shape != scan.scan_shape:
        raise InputError(
            f"the scan mask has the shape {scan_mask.shape}, the scan {scan.scan_shape}"
        )
    found = map_patterns(_validity, scan, bad, progress="checking patterns")
    left_out = np.zeros(scan.scan_shape, bool) if scan_mask is None else scan_mask.astype(bool)
    empty = scan.missing | left_out | found["numberless"]
    if found["invalid"].any() and not empty.all():
        known = reduce_patterns(
            Mean(), scan.map(_is_finite), weights=~empty, progress="pixels without numbers"
        )
        bad = bad | (np.asarray(known) < KNOWN)
        found = map_patterns(_validity, scan, bad, progress="checking patterns")
    invalid = np.where(left_out, 0, found["invalid"])
    valid = invalid == 0
    if not exclude_invalid and not (valid | scan.missing).all():
        raise InputError(_describe_invalid(np.where(scan.missing, 0, invalid), found["blank"]))
    valid &= ~left_out
    if not valid.any():
        raise InputError(_why_none(found["blank"], invalid, bad, left_out))
    raw = reduce_patterns(
        Moments(), scan.map(_or_zero, bad), weights=valid, progress="detector statistics"
    )
    given = int(bad.sum())
    if find_bad:
        mean, std = np.asarray(raw.mean), np.asarray(raw.std)
        bad = bad | find_bad_pixels(mean, std, int(valid.sum()), contrast=contrast)
    noise = find_noise(scan, options, bad, scan_mask)
    clean = noise.electrons(scan).map(repair_pixels, bad)
    if bad.sum() > given:  # what they hold was counted
        dose = map_patterns(total_counts, clean, progress="dose")
    else:
        dose = (found["dose"] - noise.offset * (bad.size - given)) / noise.gain
    if not np.mean(dose[valid]) > 0:
        raise InputError(
            f"an offset of {noise.offset:.4g} counts leaves {np.mean(dose[valid]):.4g} electrons per pattern: "
            "give another detector.offset"
        )
    mean = (np.asarray(raw.mean) - noise.offset) / noise.gain
    beam = find_direct_beam(np.asarray(jax.jit(repair_pixels)(mean, bad)))
    seen = scan if scan_mask is None else scan.without(scan_mask)
    sample = sample_scan(noise.electrons(seen))
    limit = find_saturation(sample, beam.radius, noise.of_electrons).saturation
    noise = replace(noise, saturation=float(limit))
    dose = np.where(valid, dose, np.nan).astype(np.float32)
    return Survey(invalid, dose, raw.mean, raw.std, noise, beam.center, beam.radius, scan_mask)


def _known_bad(scan: Dataset, options: DetectorOptions) -> np.ndarray:
    """Pixels that the file or the caller says cannot be used."""
    bad = np.zeros(scan.pattern_shape, bool) if scan.mask is None else scan.mask.copy()
    if options.mask is None:
        return bad
    given = np.asarray(options.mask, bool)
    if given.shape != bad.shape:
        raise InputError(f"the mask has {given.shape} pixels, the detector {bad.shape}")
    return bad | given


def _validity(pattern: Any, bad: Any) -> dict[str, Any]:
    known = jnp.where(bad, 0, pattern)
    return {
        "numberless": jnp.all(bad | ~jnp.isfinite(pattern.astype(float))) & ~jnp.all(bad),
        "invalid": count_invalid(known),
        "blank": jnp.all(known == 0),
        "dose": total_counts(jnp.where(jnp.isfinite(known.astype(float)), known, 0)),
    }


def _is_finite(pattern: Any) -> Any:
    return jnp.isfinite(pattern.astype(float)).astype(float)


def _or_zero(pattern: Any, bad: Any) -> Any:
    return jnp.where(bad, 0, pattern)


def _why_none(blank: np.ndarray, invalid: np.ndarray, bad: np.ndarray, left_out: np.ndarray) -> str:
    if bad.all():
        return "no pattern can be used: every pixel of the detector is masked or has no number"
    told = {
        "left out by the scan mask": left_out,
        "all zero": blank & ~left_out,
        "with NaN or infinite pixels": (invalid > 0) & ~blank & ~left_out,
    }
    numbers = ", ".join(f"{where.sum()} {what}" for what, where in told.items() if where.any())
    return f"no pattern of {blank.size} can be used: {numbers}"


def _describe_invalid(invalid: np.ndarray, blank: np.ndarray) -> str:
    which = np.argwhere(invalid > 0)
    y, x = which[0]
    what = "is all zero" if blank[y, x] else f"has {invalid[y, x]} NaN or infinite pixels"
    return (
        f"{len(which)} of {invalid.size} patterns are invalid: the one at scan position "
        f'({y}, {x}) {what}; exclude them with input.invalid_patterns = "exclude"'
    )
