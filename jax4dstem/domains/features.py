"""Which feature vectors tell the positions of a scan apart: the answer, over all kinds of `feature_kinds`."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.beam import Prepared
from jax4dstem.dataset import Dataset
from jax4dstem.domains.feature_kinds import FeatureKind
from jax4dstem.fields import DETECTOR, Result, entry
from jax4dstem.reducers import Moments, MomentsResult
from jax4dstem.stream import reduce_patterns


@dataclass(frozen=True)
class Features(Result):
    """Feature vectors of a scan: where they come from.

    Attributes:
        mean_pattern: Mean of the prepared patterns, ``(det_y, det_x)``.
        std_map: Their standard deviation over the scan, ``(det_y, det_x)``.
        mask: Boolean; pixels of the pattern, or of the cepstrum's right half plane, that the features are made of.
        ring: Inner and outer radius of the mask in its px, ``(2,)``.
        scale: Factor of every pixel of the mask, ``(pixels,)``.
        bin: Detector pixels per prepared pixel.
        blur: Of patterns before rings are taken, px; 0 for kinds that do not blur.
    """

    mean_pattern: np.ndarray = entry(
        DETECTOR, "electrons", "mean of the prepared patterns", "features/mean_pattern"
    )
    std_map: np.ndarray = entry(
        DETECTOR, "electrons", "standard deviation of the prepared patterns", "features/std_map"
    )
    mask: np.ndarray = entry("mask_y mask_x", "", "feature pixels", "features/mask")
    ring: np.ndarray = entry("radius", "px", "inner and outer radius of the mask", "features/ring")
    scale: np.ndarray = entry("feature", "1", "factor of every feature", "features/scale")
    bin: int = entry("", "px", "detector pixels per prepared pixel", "features/bin")
    blur: float = entry("", "px", "blur of the patterns before rings are taken", "features/blur")


def pattern_moments(prepared: Prepared) -> MomentsResult:
    """Mean and standard deviation of the prepared patterns over the scan, ``(det_y, det_x)``, by which all kinds choose."""
    return reduce_patterns(Moments(), prepared.patterns, weights=prepared.valid, progress="STD map")


def choose_features(
    prepared: Prepared, kind: FeatureKind, moments: MomentsResult | None = None
) -> Features:
    """Look at the mean and the spread of the patterns, and choose what to make features of.

    Args:
        prepared: From `prepare_patterns`.
        kind: One of `FEATURE_KINDS`.
        moments: Of the patterns, where they are known, as for several kinds.

    Returns:
        The choice; `feature_vectors` computes the vectors.

    Raises:
        InputError: The kind's radii do not fit the pattern.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> scan, _ = polycrystal((4, 4), (64, 64), n_grains=2)
        >>> survey = survey_scan(scan)
        >>> prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
        >>> from jax4dstem.domains import VaryingPixels
        >>> features = choose_features(prepared, VaryingPixels(fraction=0.1))
        >>> features.mask.shape, len(features.scale) == int(features.mask.sum())
        ((64, 64), True)
    """
    moments = moments or pattern_moments(prepared)
    chosen = kind.choose(prepared, moments)
    return Features(
        np.asarray(moments.mean),
        np.asarray(moments.std),
        chosen.mask,
        np.array(chosen.ring),
        chosen.scale,
        prepared.bin,
        chosen.blur,
    )


def feature_vectors(prepared: Prepared, kind: FeatureKind, features: Features) -> Dataset:
    """The feature vectors of a scan, ``(features,)`` at every position; nothing is computed yet.

    Args:
        prepared: As for `choose_features`.
        kind: As for `choose_features`.
        features: What it chose.

    Returns:
        The lazy dataset.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.beam import align_scan, prepare_patterns, survey_scan
        >>> scan, _ = polycrystal((4, 4), (64, 64), n_grains=2)
        >>> survey = survey_scan(scan)
        >>> prepared = prepare_patterns(scan, survey, align_scan(scan, survey))
        >>> from jax4dstem.domains import VaryingPixels, choose_features
        >>> kind = VaryingPixels(fraction=0.1)
        >>> features = choose_features(prepared, kind)
        >>> feature_vectors(prepared, kind, features).sample.shape == features.scale.shape
        True
    """
    return kind.vectors(prepared, features)
