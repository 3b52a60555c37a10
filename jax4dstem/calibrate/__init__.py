"""What the microscope does to patterns, found from the data: pixel size, ellipse, center, rotation."""

from jax4dstem.calibrate.crystal import CrystalCalibration, calibrate_scan
from jax4dstem.calibrate.found import CalibrationFound
from jax4dstem.calibrate.rings import RingCalibration, calibrate_rings
from jax4dstem.calibrate.rotation import ScanRotation, find_scan_rotation

__all__ = [
    "CalibrationFound",
    "CrystalCalibration",
    "RingCalibration",
    "ScanRotation",
    "calibrate_rings",
    "calibrate_scan",
    "find_scan_rotation",
]
