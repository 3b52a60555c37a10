"""The direct beam over a scan: is the data usable, where is the beam, what do virtual detectors see."""

from jax4dstem.beam.detector import DetectorOptions, ScanDetector, find_noise
from jax4dstem.beam.images import VirtualImages, measure_images
from jax4dstem.beam.photon_transfer import PhotonTransfer, photon_transfer
from jax4dstem.beam.positions import BeamPositions, align_scan, mean_beam
from jax4dstem.beam.prepared import Prepared, prepare_patterns
from jax4dstem.beam.preview import ScanPreview, preview_scan
from jax4dstem.beam.survey import Survey, survey_scan

__all__ = [
    "BeamPositions",
    "DetectorOptions",
    "PhotonTransfer",
    "Prepared",
    "ScanDetector",
    "ScanPreview",
    "Survey",
    "VirtualImages",
    "align_scan",
    "find_noise",
    "mean_beam",
    "measure_images",
    "photon_transfer",
    "prepare_patterns",
    "preview_scan",
    "survey_scan",
]
