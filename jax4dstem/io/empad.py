"""EMPAD .raw files, with or without their .xml."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from jax4dstem.dataset import Doubt
from jax4dstem.errors import InputError
from jax4dstem.io import frames
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.scales import Told, energy, positive

# The detector writes two rows of metadata below the 128 rows of a pattern.
EMPAD = frames.Frames(np.dtype("<f4"), (128, 128), gap=2 * 128 * 4)
WHAT = "EMPAD .raw (130 x 128 float32 frames)"
NAMED_SHAPE = re.compile(r"_x(\d+)_y(\d+)")  # the detector's file names: scan_x256_y256.raw
NUMBER = re.compile(r"[-+.\deE]+")

ScanShape = tuple[tuple[int, int], str]


def read(path: Path, layout: Layout) -> Stored:
    """Find the patterns of an EMPAD .xml or .raw, or of a bare .raw of given type and shape."""
    if path.suffix.lower() == ".xml":
        return _read_xml(path, layout)
    if layout.detector_shape or layout.dtype or layout.header_bytes or layout.gap_bytes:
        return frames.read(path, layout)
    scan_shape, notes = _scan_shape(path, _shape_in_name(path.name), layout)
    stored = frames.find(path, EMPAD, scan_shape, WHAT)
    return replace(stored, notes=(*stored.notes, *notes))


def _read_xml(path: Path, layout: Layout) -> Stored:
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
    told = [*_shape_in_name(name), *_shapes_in_xml(root, path.name)]
    scan_shape, notes = _scan_shape(raw, told, layout)
    stored = frames.find(raw, EMPAD, scan_shape, WHAT)
    return replace(stored, scales=_scales(root, path.name, scan_shape), notes=stored.notes + notes)


def _scan_shape(
    raw: Path, told: list[ScanShape], layout: Layout
) -> tuple[ScanShape | None, tuple[str, ...]]:
    """The shape that fits the file's size, of those that are told the first; and doubt where others are told."""
    if layout.given_scan is not None:
        return layout.given_scan, ()
    number, _ = EMPAD.count(raw.stat().st_size)
    fits = [one for one in told if prod(one[0]) == number]
    chosen = (fits or told or [None])[0]
    if chosen is None:
        return None, ()
    others = {why: shape for shape, why in told if shape != chosen[0]}
    listed = ", ".join(f"{shape[0]} x {shape[1]} ({why})" for why, shape in others.items())
    notes = (Doubt(f"other scan shapes are told: {listed}; give scan_shape"),) if others else ()
    return chosen, notes


def _shape_in_name(name: str) -> list[ScanShape]:
    match = NAMED_SHAPE.search(name)
    return [((int(match[2]), int(match[1])), f"from the file name {name}")] if match else []


def _shapes_in_xml(root: ET.Element, name: str) -> list[ScanShape]:
    """Scan resolutions: of the acquisition, of other modes, or pix_y and pix_x of older files."""
    modes = sorted(
        root.findall(".//scan_parameters"), key=lambda element: element.get("mode") != "acquire"
    )
    places = [
        (element, "scan_resolution_y", "scan_resolution_x", f"mode {element.get('mode')} in {name}")
        for element in modes
    ]
    shapes = []
    for element, *names, why in [*places, (root, "pix_y", "pix_x", f"from {name}")]:
        rows, columns = (positive(element.findtext(f".//{key}")) for key in names)
        if rows and columns:
            shapes.append(((int(rows), int(columns)), why))
    return shapes


def _scales(root: ET.Element, name: str, scan_shape: ScanShape | None) -> tuple[Told, ...]:
    """Scales among the microscope's readings, in m, V and (older files) 1e9 nm⁻¹."""
    volts = positive(root.findtext(".//high_voltage"))
    scales = {}
    pixel = positive(root.findtext(".//calibrated_pixelsize"))
    if pixel is not None:
        scales["pixel_inv_angstrom"] = pixel * 1e8
    field = _field_of_view(root)
    if field is not None and scan_shape is not None:
        scales["scan_step_nm"] = 1e9 * field / max(scan_shape[0])
    source = f"from {name}"
    return Told(scales, source), energy(volts and volts / 1e3, source)


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
