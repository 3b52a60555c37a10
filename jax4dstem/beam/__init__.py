"""The direct beam over a scan: is the data usable, where is the beam, what do virtual detectors see."""

from jax4dstem.beam.images import VirtualImages, measure_images
from jax4dstem.beam.positions import BeamPositions, align_scan
from jax4dstem.beam.prepared import Prepared, prepare_patterns
from jax4dstem.beam.survey import Survey, survey_scan

__all__ = [
    "BeamPositions",
    "Prepared",
    "Survey",
    "VirtualImages",
    "align_scan",
    "measure_images",
    "prepare_patterns",
    "survey_scan",
]
