"""`calibrate`: from a file and a known crystal to a calibration file."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import degrees
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.beam import align_scan, measure_images
from jax4dstem.calibrate import CalibrationFound, ScanRotation, calibrate_scan, find_scan_rotation
from jax4dstem.coordinates import Calibration
from jax4dstem.errors import OutputError
from jax4dstem.io import open_dataset
from jax4dstem.lattice.cell import zone_lattice
from jax4dstem.pipeline.recipe import to_toml
from jax4dstem.pipeline.sections import CALIBRATION_KEYS, Recipe
from jax4dstem.pipeline.stages import survey

CALIBRATION = "calibration.toml"
ALMOST = 1.5  # times larger: the ellipse of another way to lay the crystal, below which it is told


@dataclass(frozen=True)
class KnownCrystal:
    """What a scan is calibrated by.

    Attributes:
        cif: File of the crystal.
        zone: Its direction [uvw] along the beam.
        region: Rows y0 to y1 and columns x0 to x1 (without the last ones) that show it, unstrained; None for all.
    """

    cif: str | Path
    zone: tuple[int, int, int] = (0, 0, 1)
    region: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class CalibratedFile:
    """What `calibrate` found.

    Attributes:
        path: The calibration file.
        calibration: As written there.
        crystal: Pixel, ellipse and center.
        rotation: From the curl of the center of mass, whether there was a signal or not.
    """

    path: Path
    calibration: Calibration
    crystal: CalibrationFound
    rotation: ScanRotation


def calibrate(
    path: str | Path,
    out: str | Path,
    known: KnownCrystal,
    recipe: Recipe | None = None,
    say: Callable[[str], Any] = print,
) -> CalibratedFile:
    """Find pixel size, ellipse, center and scan rotation of a file and write ``OUT/calibration.toml``.

    Args:
        path: The raw data.
        out: Directory; made when it does not exist.
        known: The crystal, and where it is.
        recipe: How the file is read and prepared; what its calibration gives and is not found stays.
        say: Receives a line per number found, and what is doubtful.

    Raises:
        InputError: The crystal cannot be used, the data do not show it, or the region leaves the scan.
        OutputError: OUT cannot be written.
    """
    recipe = recipe or Recipe()
    crystal = zone_lattice(known.cif, known.zone, 1.0)
    scan = open_dataset(path, **recipe.reading())
    y0, y1, x0, x1 = known.region or (0, scan.scan_shape[0], 0, scan.scan_shape[1])
    part = scan.crop_scan(y0, y1, x0, x1)
    seen = survey(scan, {}, recipe)
    beam = align_scan(
        scan, seen, search=recipe.prepare.search, descan_order=recipe.prepare.descan_order
    )
    found = calibrate_scan(
        seen.electrons(part),
        beam.center[y0:y1, x0:x1],
        beam.radius,
        crystal,
        detector=seen.detector.of_electrons,
        progress="fitting lattices",
    )
    calibration = found.applied_to(scan.calibration)
    upright = replace(calibration, scan_rotation=0.0, scan_flip=False)
    images = measure_images(replace(scan, calibration=upright), seen, beam)
    rotation = find_scan_rotation(images.center_of_mass, _steps(calibration))
    if rotation.found:
        calibration = replace(calibration, scan_rotation=rotation.angle, scan_flip=rotation.flip)
    lines = _in_words(found, rotation)
    for line in lines:
        say(line)
    target = Path(out) / CALIBRATION
    _write(
        target,
        [f"calibration of {Path(path).name} by {Path(known.cif).name}", *lines],
        calibration,
    )
    return CalibratedFile(target, calibration, found, rotation)


def calibration_toml(calibration: Calibration, comments: list[str]) -> str:
    """A calibration as the section of a recipe: what `--calibration` takes.

    Args:
        calibration: To write.
        comments: Lines above it.

    Example:
        >>> print(calibration_toml(Calibration(0.02), ["by hand"]))
        # by hand
        [calibration]
        pixel = 0.02
        ellipse = [0.0, 0.0]
        scan_rotation = 0.0
        scan_flip = false
        <BLANKLINE>
    """
    own = asdict(calibration)
    own["scan_rotation"] = degrees(own["scan_rotation"])
    values = {key: own[attribute] for key, attribute in CALIBRATION_KEYS.items()}
    known = [f"{name} = {to_toml(value)}" for name, value in values.items() if value is not None]
    return "\n".join([*(f"# {line}" for line in comments), "[calibration]", *known, ""])


def _steps(calibration: Calibration) -> tuple[float, float]:
    x = calibration.scan_step_nm or 1.0
    return calibration.scan_step_y_nm or x, x


def _in_words(found: CalibrationFound, rotation: ScanRotation) -> list[str]:
    (a, b), (a_std, b_std) = found.ellipse, found.ellipse_std
    (y, x), (y_std, x_std) = found.center, found.center_std
    lines = [
        f"pixel     {found.pixel:.6g} ± {found.pixel_std:.2g} 1/Å, from {found.positions} positions",
        f"ellipse   a = {a:.5f} ± {a_std:.5f}, b = {b:.5f} ± {b_std:.5f}",
        f"center    {y:.3f} ± {y_std:.3f}, {x:.3f} ± {x_std:.3f} px (y, x)",
    ]
    if rotation.found:
        flip = ", mirrored" if rotation.flip else ""
        angle, std = np.degrees([rotation.angle, rotation.std])
        lines.append(f"rotation  {angle:.2f} ± {std:.2f}°{flip}, modulo 180°")
    else:
        lines.append(f"rotation  not found: {rotation.reason}; it stays as it was")
    if found.rival < ALMOST * float(np.hypot(a, b)):
        lines.append(
            f"doubt     the crystal can also be laid with an ellipse of {100 * found.rival:.1f} %: "
            "its lattice is nearly symmetric, take another zone"
        )
    return lines


def _write(path: Path, comments: list[str], calibration: Calibration) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(calibration_toml(calibration, comments))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
