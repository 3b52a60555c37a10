"""`calibrate`: from a file and a known crystal, lattice or powder to a calibration file."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import degrees
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jax4dstem.beam import align_scan, measure_images
from jax4dstem.calibrate import (
    CalibrationFound,
    CrystalCalibration,
    RingCalibration,
    ScanRotation,
    calibrate_rings,
    calibrate_scan,
    find_scan_rotation,
)
from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.detector import Detector
from jax4dstem.errors import OutputError
from jax4dstem.io import open_dataset
from jax4dstem.lattice import Rings, cell_lattice, crystal_rings, zone_lattice
from jax4dstem.pipeline.recipe import to_toml
from jax4dstem.pipeline.sections import CALIBRATION_KEYS, Recipe
from jax4dstem.pipeline.stages import survey

CALIBRATION = "calibration.toml"


Region = tuple[int, int, int, int]  # y0, y1, x0, x1, without the last ones


class Known(Protocol):
    """What a scan shows and is calibrated by."""

    @property
    def name(self) -> str:
        """Of it, in the calibration file."""
        ...

    def calibrate(
        self, scan: Dataset, center: np.ndarray, radius: float, detector: Detector
    ) -> CalibrationFound:
        """The calibration from electrons of positions that show it."""
        ...


@dataclass(frozen=True)
class KnownLattice:
    """One crystal, or grains of it in one zone.

    Attributes:
        name: Of it.
        vectors: g1, g2 as rows (y, x) in 1/Å, ``(2, 2)``.
    """

    name: str
    vectors: np.ndarray

    @classmethod
    def of_crystal(cls, cif: str | Path, zone: tuple[int, int, int]) -> "KnownLattice":
        """The crystal of a CIF file along [uvw]."""
        return cls(f"{Path(cif).name} along {list(zone)}", zone_lattice(cif, zone, 1.0))

    @classmethod
    def of_cell(cls, a: float, b: float, gamma: float) -> "KnownLattice":
        """A projected cell: two lengths in Å and an angle in degrees."""
        name = f"a lattice of {a:g} and {b:g} Å at {gamma:g}°"
        return cls(name, cell_lattice(a, b, gamma))

    def calibrate(
        self, scan: Dataset, center: np.ndarray, radius: float, detector: Detector
    ) -> CrystalCalibration:
        """By `calibrate_scan`."""
        return calibrate_scan(
            scan, center, radius, self.vectors, detector=detector, progress="fitting lattices"
        )


@dataclass(frozen=True)
class KnownRings:
    """A polycrystal.

    Attributes:
        name: Of it.
        rings: Of its powder.
    """

    name: str
    rings: Rings

    @classmethod
    def of_crystal(cls, cif: str | Path) -> "KnownRings":
        """Of the crystal of a CIF file."""
        return cls(f"rings of {Path(cif).name}", crystal_rings(cif))

    @classmethod
    def of_spacings(cls, spacings: tuple[float, ...]) -> "KnownRings":
        """Of given spacings in Å."""
        return cls("rings of given spacings", Rings.of_spacings(spacings))

    def calibrate(
        self, scan: Dataset, center: np.ndarray, radius: float, detector: Detector
    ) -> RingCalibration:
        """By `calibrate_rings`."""
        return calibrate_rings(scan, center, radius, self.rings, detector=detector)


@dataclass(frozen=True)
class CalibratedFile:
    """What `calibrate` found.

    Attributes:
        path: The calibration file.
        calibration: As written there.
        found: Pixel, ellipse and center, and how sure they are.
        rotation: From the curl of the center of mass, whether there was a signal or not.
    """

    path: Path
    calibration: Calibration
    found: CalibrationFound
    rotation: ScanRotation


def calibrate(
    path: str | Path,
    out: str | Path,
    known: Known,
    recipe: Recipe | None = None,
    region: Region | None = None,
    say: Callable[[str], Any] = print,
) -> CalibratedFile:
    """Find pixel size, ellipse, center and scan rotation of a file and write ``OUT/calibration.toml``.

    Args:
        path: The raw data.
        out: Directory; made when it does not exist.
        known: What the file shows: `KnownLattice` or `KnownRings`.
        recipe: How the file is read and prepared; what its calibration gives and is not found stays.
        region: Rows y0 to y1 and columns x0 to x1 (without the last ones) that show it, unstrained; None for all.
        say: Receives a line per number found, and what is doubtful.

    Raises:
        InputError: The data do not show what is known, or the region leaves the scan.
        OutputError: OUT cannot be written.
    """
    recipe = recipe or Recipe()
    scan = open_dataset(path, **recipe.reading())
    y0, y1, x0, x1 = region or (0, scan.scan_shape[0], 0, scan.scan_shape[1])
    part = scan.crop_scan(y0, y1, x0, x1)
    seen = survey(scan, {}, recipe)
    beam = align_scan(
        scan, seen, search=recipe.prepare.search, descan_order=recipe.prepare.descan_order
    )
    center = beam.center[y0:y1, x0:x1]
    found = known.calibrate(seen.electrons(part), center, beam.radius, seen.detector.of_electrons)
    calibration = found.applied_to(scan.calibration)
    upright = replace(calibration, scan_rotation=0.0, scan_flip=False)
    images = measure_images(replace(scan, calibration=upright), seen, beam)
    rotation = find_scan_rotation(images.center_of_mass, calibration.scan_steps[0])
    if rotation.found:
        calibration = replace(calibration, scan_rotation=rotation.angle, scan_flip=rotation.flip)
    lines = _in_words(found, rotation)
    for line in lines:
        say(line)
    target = Path(out) / CALIBRATION
    _write(
        target,
        [f"calibration of {Path(path).name} by {known.name}", *lines],
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
    lines += [f"doubt     {doubt}" for doubt in found.doubts]
    return lines


def _write(path: Path, comments: list[str], calibration: Calibration) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(calibration_toml(calibration, comments))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
