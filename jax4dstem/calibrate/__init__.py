"""What the microscope does to patterns, found from the data: pixel size, ellipse, center, rotation."""

from jax4dstem.calibrate.crystal import CalibrationFound, calibrate_scan
from jax4dstem.calibrate.rotation import ScanRotation, find_scan_rotation

__all__ = ["CalibrationFound", "ScanRotation", "calibrate_scan", "find_scan_rotation"]
