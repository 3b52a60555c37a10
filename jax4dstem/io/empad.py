"""EMPAD .raw files, with or without their .xml, and bare .raw files."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.layout import Layout
from jax4dstem.io.sources import StackSource, fit_scan, memory_map

STORED = (130, 128)  # the detector writes two rows of metadata below each pattern
PATTERN = (128, 128)
EMPAD_TYPE = np.dtype("<f4")


def read(path: Path, layout: Layout) -> Dataset:
    """Open an EMPAD .xml or .raw, or a bare .raw whose type and detector shape are given."""
    if path.suffix.lower() == ".xml":
        return _read_xml(path, layout)
    if layout.detector_shape is None and layout.dtype is None:
        return _stack(
            path, layout, EMPAD_TYPE, STORED, PATTERN, "EMPAD .raw (130 x 128 float32 frames)"
        )
    if layout.detector_shape is None or layout.dtype is None:
        raise InputError("a bare .raw file needs both dtype and detector_shape (and scan_shape)")
    shape, dtype = layout.detector_shape, layout.cast()
    if min(shape) < 1:
        raise InputError(f"detector_shape {shape[0]} x {shape[1]} is empty")
    return _stack(path, layout, dtype, shape, shape, "bare .raw, type and detector shape given")


def _read_xml(path: Path, layout: Layout) -> Dataset:
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise InputError(f"{path} is no valid XML: {error}") from error
    raw_name = next(
        (e.attrib["filename"] for e in root.iter("raw_file") if "filename" in e.attrib), ""
    )
    raw = (
        path.parent / Path(raw_name.replace("\\", "/")).name
        if raw_name
        else path.with_suffix(".raw")
    )
    if not raw.is_file():
        raise InputError(f"{path} belongs to {raw}, which is not there")
    scan_shape = layout.scan_shape or _scan_shape(root)
    dataset = _stack(
        raw,
        replace(layout, scan_shape=scan_shape),
        EMPAD_TYPE,
        STORED,
        PATTERN,
        f"EMPAD, scan shape from {path.name}",
    )
    return replace(dataset, calibration=_calibration(root))


def _scan_shape(root: ET.Element) -> tuple[int, int] | None:
    for parent in root.iter("scan_parameters"):
        if parent.attrib.get("mode") == "acquire":
            values = {e.tag: e.text for e in parent}
            if "scan_resolution_x" in values and "scan_resolution_y" in values:
                return int(float(values["scan_resolution_y"] or 0)), int(
                    float(values["scan_resolution_x"] or 0)
                )
    numbers = {tag: next((e.text for e in root.iter(tag)), None) for tag in ("pix_y", "pix_x")}
    if all(numbers.values()):
        return int(numbers["pix_y"] or 0), int(numbers["pix_x"] or 0)
    return None


def _calibration(root: ET.Element) -> Calibration:
    text = next((e.text for e in root.iter("high_voltage")), None)
    try:
        return Calibration(energy_kv=float(text) / 1000 if text else None)
    except ValueError:
        return Calibration()


def _stack(
    path: Path,
    layout: Layout,
    dtype: np.dtype | None,
    stored: tuple[int, int],
    pattern: tuple[int, int],
    what: str,
) -> Dataset:
    """Frames of a file without header."""
    assert dtype is not None
    size, frame = path.stat().st_size, prod(stored) * dtype.itemsize
    if size % frame:
        raise InputError(
            f"{path} has {size} bytes, which does not divide into frames of {stored[0]} x {stored[1]} "
            f"{dtype} = {frame} bytes ({size // frame} frames and {size % frame} bytes left); "
            "give dtype and detector_shape"
        )
    n_frames = size // frame
    scan_shape, why = fit_scan(n_frames, layout.scan_shape, layout.frame_skip, layout.flyback)
    opener = memory_map(path, dtype, (n_frames, *stored), 0)
    source = StackSource(opener, scan_shape, pattern, dtype, layout.frame_skip, layout.flyback)
    return Dataset(source, notes=(f"format: {what}", why), path=str(path))
