"""Virtual images: what detectors of simple shape see that follow the direct beam."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jax4dstem.beam.positions import BeamPositions
from jax4dstem.beam.survey import Survey
from jax4dstem.dataset import Dataset, check_dataset
from jax4dstem.fields import SCAN, Result, entry
from jax4dstem.patterns.align import DirectBeam
from jax4dstem.patterns.detectors import (
    annular_dark_field,
    bright_field,
    center_of_mass,
    check_ring,
)
from jax4dstem.patterns.features import ring_radii
from jax4dstem.stream import map_patterns


@dataclass(frozen=True)
class VirtualImages(Result):
    """Virtual images of a scan; NaN where a pattern is invalid.

    Attributes:
        bright_field: Signal of a disk in electrons, ``(scan_y, scan_x)``.
        annular_dark_field: Signal of a ring in electrons, ``(scan_y, scan_x)``.
        center_of_mass: Relative to the direct beam, (y, x) in px, in scan axes, undistorted, ``(scan_y, scan_x, 2)``.
        radii: Of the bright field, of the dark field inside and outside, in px; ``(3,)``.
    """

    bright_field: np.ndarray = entry(
        SCAN, "electrons", "disk around the direct beam", "images/bright_field"
    )
    annular_dark_field: np.ndarray = entry(
        SCAN, "electrons", "ring around the direct beam", "images/annular_dark_field"
    )
    center_of_mass: np.ndarray = entry(
        f"{SCAN} yx",
        "px",
        "center of mass relative to the direct beam (y, x), in scan axes, undistorted",
        "images/center_of_mass",
    )
    radii: np.ndarray = entry(
        "radius", "px", "bright field; dark field inner and outer radius", "images/radii"
    )


def measure_images(
    scan: Dataset,
    survey: Survey,
    beam: BeamPositions,
    *,
    bright_field: float = 1.5,
    dark_field_inner: float = 2.0,
    dark_field_outer: float | None = None,
) -> VirtualImages:
    """Bright field, annular dark field and center of mass of every pattern, in one pass.

    Args:
        scan: Raw patterns.
        survey: Of this scan.
        beam: Of this scan.
        bright_field: Radius of the disk in radii of the direct beam.
        dark_field_inner: Inner radius of the ring in the same unit.
        dark_field_outer: Outer radius; None reaches the nearest detector edge.

    Returns:
        The images.

    Raises:
        InputError: The ring does not fit the detector.

    Example:
        >>> from jax4dstem.beam import align_scan, survey_scan
        >>> counts = np.random.default_rng(0).poisson(1.0, (3, 4, 32, 32))
        >>> counts[:, :, 14:18, 13:17] += 50
        >>> scan = Dataset.from_array(counts)
        >>> survey = survey_scan(scan)
        >>> beam = align_scan(scan, survey)
        >>> images = measure_images(scan, survey, beam)
        >>> images.bright_field.shape, images.center_of_mass.shape
        ((3, 4), (3, 4, 2))
    """
    check_dataset(scan, "measure_images")
    center = beam.center
    bright, inner = bright_field * beam.radius, dark_field_inner * beam.radius
    if dark_field_outer is None:
        reach = ring_radii(DirectBeam(survey.center, beam.radius), center, scan.pattern_shape)[1]
        outer = max(reach, inner + 1)
    else:
        outer = dark_field_outer * beam.radius
        y, x = center.reshape(-1, 2).mean(axis=0).tolist()
        check_ring(scan.pattern_shape, (y, x), inner, outer)
    clean = survey.repaired(scan)
    found = map_patterns(
        _signals, clean, bright, inner, outer, per_position=(center,), progress="images"
    )
    found["center_of_mass"] = found["center_of_mass"] @ scan.calibration.to_scan_axes
    images = {
        name: np.where(np.expand_dims(survey.valid, tuple(range(2, image.ndim))), image, np.nan)
        for name, image in found.items()
    }
    return VirtualImages(**images, radii=np.array([bright, inner, outer]))


def _signals(pattern: Any, center: Any, bright: Any, inner: Any, outer: Any) -> dict[str, Any]:
    return {
        "bright_field": bright_field(pattern, center, bright),
        "annular_dark_field": annular_dark_field(pattern, center, inner, outer),
        "center_of_mass": center_of_mass(pattern) - center,
    }
