"""Arrays that a recipe names by their files: masks, centers."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jax4dstem.beam import (
    BeamPositions,
    DetectorOptions,
    Survey,
    VirtualImages,
    align_scan,
    mean_beam,
    survey_scan,
)
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io import open_dataset
from jax4dstem.io.arrays import read_array
from jax4dstem.lattice import zone_lattice
from jax4dstem.pipeline.sections import Recipe

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
CONDITION = re.compile(rf"\s*(bright_field|annular_dark_field|dose)\s*([<>])\s*({NUMBER})\s*")
PICTURES = (".npy", ".tif", ".tiff", ".h5", ".hdf5")
RECTANGLE = re.compile(r"\s*\d+\s*,\s*\d+\s*,\s*\d+\s*,\s*\d+\s*")


def given_center(recipe: Recipe) -> np.ndarray | None:
    """The center of the direct beam, (y, x) or one for every position; None where it is to be found."""
    center = recipe.prepare.center
    if isinstance(center, str):
        return read_array(center).astype(np.float64)
    return None if center is None else np.array(center)


class Condition(NamedTuple):
    """Positions whose value in an image is above or below a limit."""

    image: str
    relation: str
    limit: float

    def holds(self, survey: Survey, images: VirtualImages) -> np.ndarray:
        """Where it holds, ``(scan_y, scan_x)``; nowhere without a value."""
        values = survey.dose if self.image == "dose" else getattr(images, self.image)
        with np.errstate(invalid="ignore"):
            return values > self.limit if self.relation == ">" else values < self.limit


def scan_condition(recipe: Recipe) -> Condition | None:
    """The condition on a virtual image that masks positions; None for another kind of scan mask."""
    found = CONDITION.fullmatch(recipe.prepare.scan_mask or "")
    return None if found is None else Condition(found[1], found[2], float(found[3]))


def given_scan_mask(recipe: Recipe, scan: Dataset) -> np.ndarray | None:
    """Positions that are left out by a file or a rectangle, True."""
    text = recipe.prepare.scan_mask
    if text is None or scan_condition(recipe) is not None:
        return None
    if RECTANGLE.fullmatch(text):
        return _rectangles([_numbers(text)], scan.scan_shape, "prepare.scan_mask")
    mask = read_array(text) != 0
    if mask.shape != scan.scan_shape:
        raise InputError(
            f"prepare.scan_mask has the shape {mask.shape}, the scan {scan.scan_shape}"
        )
    return mask


def given_detector(recipe: Recipe, scan: Dataset) -> DetectorOptions:
    """What the recipe says of the detector."""
    options, shape = recipe.detector, scan.pattern_shape
    mask = _rectangles(options.mask_rectangles, shape, "detector.mask_rectangles")
    if options.mask is not None:
        given = read_array(options.mask) != 0
        if given.shape != shape:
            raise InputError(f"detector.mask has {given.shape} pixels, the detector {shape}")
        mask |= given
    return DetectorOptions(options.gain, options.offset, options.read_noise, mask)


def given_probe(
    recipe: Recipe, scan: Dataset, survey: Survey, beam: BeamPositions
) -> np.ndarray | None:
    """Picture of the probe, from a file or a region of the scan; None where it is to be learned."""
    options = recipe.strain
    if options.probe_region is not None:
        among = _rectangles([options.probe_region], scan.scan_shape, "strain.probe_region")
        return mean_beam(scan, survey, beam, among)
    if options.probe is None:
        return None
    if _file_of(options.probe).suffix.lower() in PICTURES:
        picture = read_array(options.probe)
        if picture.ndim == 2:
            return picture
    vacuum = open_dataset(options.probe)
    seen = survey_scan(vacuum)
    return mean_beam(vacuum, seen, align_scan(vacuum, seen))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _rectangles(
    rectangles: Iterable[Sequence[int]], shape: tuple[int, int], key: str
) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for y0, y1, x0, x1 in rectangles:
        if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
            raise InputError(
                f"{key}: rows {y0}:{y1}, columns {x0}:{x1} is empty or outside of {shape[0]} x {shape[1]}"
            )
        mask[y0:y1, x0:x1] = True
    return mask


def check_given_fits(recipe: Recipe, scan: Dataset) -> None:
    """Raise InputError for files that are not there or hold something else, and arrays of another shape than the scan."""
    for cif, zone in recipe.strain.crystals:
        zone_lattice(cif, zone, 1.0)
    given_detector(recipe, scan)
    given_scan_mask(recipe, scan)
    probe = recipe.strain.probe
    if probe is not None and not (Path(probe).exists() or _file_of(probe).is_file()):
        raise InputError(f"strain.probe: there is no file {probe}")
    if recipe.strain.probe_region is not None:
        _rectangles([recipe.strain.probe_region], scan.scan_shape, "strain.probe_region")
    center = given_center(recipe)
    if center is not None:
        _check_center(center, scan)


def _check_center(center: np.ndarray, scan: Dataset) -> None:
    if center.shape not in ((2,), (*scan.scan_shape, 2)):
        raise InputError(
            f"prepare.center has the shape {center.shape}; expected (y, x), or {scan.scan_shape} of them"
        )
    height, width = scan.pattern_shape
    inside = (center >= 0) & (center <= (height - 1, width - 1))
    if not inside.all():
        y, x = center[~inside.all(axis=-1)].reshape(-1, 2)[0]
        raise InputError(
            f"prepare.center ({y:g}, {x:g}) lies outside of the {height} x {width} detector"
        )


def hash_of_given(recipe: Recipe) -> str:
    """Hash of what the named files hold, and of what a condition is about; "" without.

    Another mask under the same name is another recipe.
    """
    names = [
        recipe.prepare.center,
        *(cif for cif, _ in recipe.strain.crystals),
        recipe.strain.probe,
        recipe.detector.mask,
        recipe.prepare.scan_mask,
    ]
    files = [path for name in names if isinstance(name, str) and (path := _file_of(name)).is_file()]
    condition = scan_condition(recipe)
    if not files and condition is None:
        return ""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    if condition is not None:
        digest.update(repr((recipe.prepare, recipe.images)).encode())
    return digest.hexdigest()


def _file_of(name: str) -> Path:
    return Path(name) if Path(name).is_file() else Path(name.rpartition(":")[0])
