"""EMPAD .raw files, with or without their .xml, and bare .raw files."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.scales import Scales, energy, positive
from jax4dstem.io.sources import Opener, memory_map

FRAME = (130, 128)  # the detector writes two rows of metadata below each pattern
PATTERN = (128, 128)
EMPAD_TYPE = np.dtype("<f4")
NAMED_SHAPE = re.compile(r"_x(\d+)_y(\d+)")  # the detector's file names: scan_x256_y256.raw
NUMBER = re.compile(r"[-+.\deE]+")

ScanShape = tuple[tuple[int, int], str] | None


def read(path: Path, layout: Layout) -> Stored:
    """Find the patterns of an EMPAD .xml or .raw, or of a bare .raw of given type and shape."""
    if path.suffix.lower() == ".xml":
        return _read_xml(path)
    if layout.detector_shape is None and layout.dtype is None:
        return replace(_empad(path), scan_shape=_shape_in_name(path.name))
    dtype, shape = layout.cast(), layout.detector_shape
    if shape is None or dtype is None:
        raise InputError("a bare .raw file needs both dtype and detector_shape (and scan_shape)")
    if min(shape) < 1:
        raise InputError(f"detector_shape {shape[0]} x {shape[1]} is empty")
    return _frames(path, dtype, shape, shape, "bare .raw, type and detector shape given")


def _empad(path: Path) -> Stored:
    return _frames(path, EMPAD_TYPE, FRAME, PATTERN, "EMPAD .raw (130 x 128 float32 frames)")


def _frames(
    path: Path, dtype: np.dtype, frame: tuple[int, int], pattern: tuple[int, int], what: str
) -> Stored:
    """Frames of a file without header; a pattern is the first rows of a frame."""
    size, frame_size = path.stat().st_size, prod(frame) * dtype.itemsize
    n_frames, rest = divmod(size, frame_size)
    if rest:
        raise InputError(
            f"{path} has {size} bytes, which does not divide into frames of {frame[0]} x {frame[1]} "
            f"{dtype} = {frame_size} bytes ({n_frames} frames and {rest} bytes left); "
            "give dtype and detector_shape"
        )
    frames = memory_map(path, dtype, (n_frames, *frame), 0)
    return Stored(
        _first_rows(frames, pattern[0]),
        (n_frames, *pattern),
        dtype,
        str(path),
        path.name,
        notes=(f"format: {what}",),
    )


def _first_rows(frames: Opener, rows: int) -> Opener:
    @contextmanager
    def open_rows() -> Iterator[np.ndarray]:
        with frames() as stack:
            yield stack[:, :rows]

    return open_rows


def _read_xml(path: Path) -> Stored:
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise InputError(f"{path} is no valid XML: {error}") from error
    named = next((e.get("filename") for e in root.iter("raw_file") if e.get("filename")), None)
    # Only the name counts: its folder is that of the microscope's computer.
    name = Path(named.replace("\\", "/")).name if named else f"{path.stem}.raw"
    raw = path.parent / name
    if not raw.is_file():
        raise InputError(f"{path} belongs to {raw}, which is not there")
    shape = _shape_in_xml(root)
    scan_shape = (shape, f"from {path.name}") if shape else _shape_in_name(name)
    scales = _scales(root, scan_shape)
    return replace(_empad(raw), scan_shape=scan_shape, scales=((scales, f"from {path.name}"),))


def _shape_in_name(name: str) -> ScanShape:
    match = NAMED_SHAPE.search(name)
    return ((int(match[2]), int(match[1])), f"from the file name {name}") if match else None


def _shape_in_xml(root: ET.Element) -> tuple[int, int] | None:
    """Scan resolution of the acquisition, or pix_y and pix_x of older files."""
    acquired = root.find(".//scan_parameters[@mode='acquire']")
    places = [(acquired, "scan_resolution_y", "scan_resolution_x"), (root, "pix_y", "pix_x")]
    for element, *names in places:
        if element is not None:
            numbers = [positive(element.findtext(f".//{name}")) for name in names]
            if None not in numbers:
                return int(numbers[0] or 0), int(numbers[1] or 0)
    return None


def _scales(root: ET.Element, scan_shape: ScanShape) -> Scales:
    """Scales among the microscope's readings, in m, V and (older files) 1e9 nm⁻¹."""
    volts = positive(root.findtext(".//high_voltage"))
    scales = dict(energy(volts and volts / 1e3))
    pixel = positive(root.findtext(".//calibrated_pixelsize"))
    if pixel is not None:
        scales["pixel_inv_angstrom"] = pixel * 1e8
    field = _field_of_view(root)
    if field is not None and scan_shape is not None:
        scales["scan_step_nm"] = 1e9 * field / max(scan_shape[0])
    return scales


def _field_of_view(root: ET.Element) -> float | None:
    """Length of the scan's longer side in m."""
    older = root.findtext(".//{*}optics.get_full_scan_field_of_view")
    if older is not None:
        lengths = [positive(number) for number in NUMBER.findall(older)]
        return max((length for length in lengths if length is not None), default=None)
    field = positive(root.findtext(".//full_scan_field_of_view/x"))
    # The detector stores the field multiplied by this factor.
    factor = positive(root.findtext(".//full_scan_field_of_view/scale_factor"))
    return field / factor if field and factor else None
