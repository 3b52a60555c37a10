"""Prepared patterns: what happens to every pattern before features and pictures are made of it.

Repair of bad pixels, normalization, centering and binning are a chain of pattern functions; nothing is stored, the chain is
compiled into whatever is lifted over it.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from jax4dstem.beam.positions import BeamPositions
from jax4dstem.beam.survey import Survey
from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import BinDetector, Dataset, check_dataset
from jax4dstem.patterns.align import DirectBeam, center_pattern, middle
from jax4dstem.patterns.detectors import normalize_dose, normalize_peak
from jax4dstem.patterns.features import ring_radii

AUTO_BIN = 128  # px; a wider detector is summed down to about this before features are taken


@dataclass(frozen=True)
class Prepared:
    """A scan whose patterns are repaired, normalized, centered and binned, computed when they are read.

    Attributes:
        patterns: The lazy dataset; its calibration is that of the binned pixels.
        valid: Positions whose pattern can be used, ``(scan_y, scan_x)``.
        center: Where the direct beam lies in every prepared pattern, (y, x) in its px.
        radius: Of the direct beam, in px of the prepared pattern.
        dose: Typical total counts of a pattern.
        bin: Detector pixels per prepared pixel along an axis.
        beam: Of the raw patterns.
    """

    patterns: Dataset
    valid: np.ndarray
    center: np.ndarray
    radius: float
    dose: float
    bin: int
    beam: BeamPositions

    @property
    def shape(self) -> tuple[int, int]:
        """``(det_y, det_x)`` of a prepared pattern."""
        return self.patterns.pattern_shape

    @property
    def ring(self) -> tuple[float, float]:
        """Inner and outer radius of what every pattern covers beside the direct beam, in px of the prepared pattern.

        Raises:
            InputError: The direct beam lies at the edge of the detector.
        """
        beam, scan = self.beam, self.patterns
        direct = DirectBeam(beam.center.reshape(-1, 2).mean(axis=0), beam.radius)
        inner, outer = ring_radii(direct, beam.center, scan.detector_shape)
        return inner / self.bin, float(np.floor(outer / self.bin))

    @property
    def calibration(self) -> Calibration:
        """Of the prepared pixels."""
        return self.patterns.calibration


def prepare_patterns(
    scan: Dataset,
    survey: Survey,
    beam: BeamPositions,
    *,
    normalize: Literal["dose", "peak", "none"] = "dose",
    bin: int | None = None,
) -> Prepared:
    """Repair, normalize, center and bin the patterns of a scan; nothing is computed yet.

    A pattern is normalized before it is moved, so no intensity is lost at the rim.

    Args:
        scan: Raw patterns.
        survey: Of this scan.
        beam: Of this scan.
        normalize: To the same total, to the same maximum, or not.
        bin: Detector pixels that are summed along an axis; None sums down to about 128 px.

    Returns:
        The lazy patterns, and what is known of all of them.

    Raises:
        InputError: The direct beam lies at the edge of the detector.

    Example:
        >>> from jax4dstem.beam import align_scan, survey_scan
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 32, 32))
        >>> counts[:, :, 14:18, 13:17] += 50
        >>> scan = Dataset.from_array(counts)
        >>> survey = survey_scan(scan)
        >>> beam = align_scan(scan, survey)
        >>> prepared = prepare_patterns(scan, survey, beam, bin=2)
        >>> prepared.shape, prepared.center.tolist()  # the middle of four pixels that became one
        ((16, 16), [7.75, 7.75])
    """
    check_dataset(scan, "prepare_patterns")
    height, width = scan.pattern_shape
    dose = float(np.median(survey.dose[survey.valid]))
    chain = survey.repaired(scan)
    if normalize == "dose":
        chain = chain.map(normalize_dose, dose)
    elif normalize == "peak":
        chain = chain.map(normalize_peak)
    chain = chain.map(center_pattern, per_position=(beam.center.astype(np.float32),))
    factor = bin or max(1, round(min(height, width) / AUTO_BIN))
    if factor > 1:
        chain = chain.map(BinDetector(factor))
    chain = replace(chain, calibration=scan.calibration.binned(factor))
    target = np.asarray(middle((height, width)))
    center = ((target - (factor - 1) / 2) / factor).astype(np.float32)
    return Prepared(chain, survey.valid, center, beam.radius / factor, dose, factor, beam)
