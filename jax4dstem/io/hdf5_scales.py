"""What HDF5 dialects write beside their arrays: scales and the shape of the scan."""

from math import cos, log, pi, sin, sqrt
from typing import Any

import h5py
import numpy as np

from jax4dstem.io.scales import Axis, Told, energy, finite, from_attributes, scale_of, text


def get(group: h5py.Group, name: str) -> Any:
    """What a name leads to, or None."""
    try:
        return group[name]
    except (KeyError, OSError, ValueError):
        return None


def attribute(item: Any, name: str) -> Any:
    """An attribute, as text where it is bytes, or None."""
    return text(item.attrs.get(name))


def scan_shape_of(file: h5py.File, item: Any) -> tuple[tuple[int, int], str] | None:
    """A scan shape noted beside a stack of patterns, and where."""
    for attributes in (item.attrs, item.parent.attrs, file.attrs):
        value = attributes.get("scan_shape")
        if value is not None and np.size(value) == 2:
            return (int(value[0]), int(value[1])), "an attribute in the file"
    return None


# What `QR_sense` says in a file whose `QR_rotation` turns from the detector to the scan, counter-clockwise on the screen.
DETECTOR_TO_SCAN = "detector to scan"


def scales_of(file: h5py.File, item: Any) -> tuple[Told, ...]:
    """Scales from plain attributes, py4DSTEM's calibration, and the metadata of the microscope."""
    beam = get(item.parent, "metadata/Acquisition_instrument/TEM")
    return (
        from_attributes(item.attrs, item.parent.attrs, file.attrs),
        _py4dstem_scales(file, item),
        energy(None if beam is None else beam.attrs.get("beam_energy")),
    )


def axes_of(item: Any) -> tuple[Axis, ...]:
    """Scale and units of every axis: those that HyperSpy writes, or EMD's dimension vectors; nothing where one lacks."""
    axes = _hspy_axes(item.parent, item.ndim) or _emd_axes(item.parent, item.ndim)
    return tuple(axes) if len(axes) == item.ndim else ()


def _py4dstem_scales(file: h5py.File, item: Any) -> Told:
    """Pixels of real (R) and diffraction (Q) space, and the turn between them, in the root's metadata bundle."""
    root = item.name.split("/")[1]
    group = get(file, f"{root}/metadatabundle/calibration")
    if not isinstance(group, h5py.Group):
        return Told({}, "")

    def value(name: str) -> Any:
        stored = get(group, name)
        return stored[()] if isinstance(stored, h5py.Dataset) else None

    scales: dict[str, Any] = {}
    ignored = []
    for letter, space in (("Q", "det"), ("R", "scan")):
        axis = Axis(value(f"{letter}_pixel_size"), value(f"{letter}_pixel_units"))
        read = scale_of(axis, space)
        if isinstance(read, tuple):
            scales[read[0]] = read[1]
        elif read is not None:
            ignored.append(f"{letter}_pixel_size: {read}")
    scales = _py4dstem_ellipse(scales, *(finite(value(name)) for name in ("a", "b", "theta")))
    sense = value("QR_sense")
    turn = _py4dstem_turn(
        value("QR_rotation"),
        value("QR_rotation_degrees"),
        value("QR_flip"),
        backwards=isinstance(sense, bytes) and sense.decode() == DETECTOR_TO_SCAN,
    )
    return Told(scales | turn, "the py4DSTEM calibration in the file", tuple(ignored))


def _py4dstem_ellipse(
    scales: dict[str, Any], a: float | None, b: float | None, theta: float | None
) -> dict[str, Any]:
    """Scales with the ellipse whose semiaxis a lies at theta from the rows' axis towards the columns'.

    py4DSTEM shrinks a to b and leaves b as it is; our ellipse keeps areas, so the pixel takes up the rest.
    """
    if not a or not b or a <= 0 or b <= 0:
        return scales
    along, half = theta or 0.0, log(a / b) / 2
    scales = scales | {"ellipse": (-half * cos(2 * along), half * sin(2 * along))}
    if "pixel_inv_angstrom" in scales:
        scales["pixel_inv_angstrom"] *= sqrt(b / a)
    return scales


def _py4dstem_turn(radians: Any, degrees: Any, flip: Any, *, backwards: bool) -> dict[str, Any]:
    """Scan-detector rotation and flip.

    py4DSTEM defines the rotation as counter-clockwise from real to diffraction space, as we do; its flip exchanges the
    detector's axes, which is a mirrored y after a quarter turn. Its Bragg vectors and strain (0.14.18) turn the other way, from the
    detector to the scan, and so do files that say so (`neighbors.write_emd`).
    """
    angle, in_degrees = finite(radians), finite(degrees)
    if angle is None and in_degrees is not None:
        angle = np.deg2rad(in_degrees)
    if angle is None and not flip:
        return {}
    angle = -(angle or 0.0) if backwards else angle or 0.0
    if flip:
        return {"scan_rotation": -angle - pi / 2, "scan_flip": True}
    return {"scan_rotation": angle}


def _hspy_axes(parent: h5py.Group, count: int) -> list[Axis]:
    groups = (get(parent, f"axis-{number}") for number in range(count))
    return [
        Axis(group.attrs.get("scale"), attribute(group, "units"))
        for group in groups
        if isinstance(group, h5py.Group)
    ]


def _emd_axes(parent: h5py.Group, count: int) -> list[Axis]:
    """Vectors dim0 to dim3, or dim1 to dim4 in older files."""
    first = 0 if "dim0" in parent else 1
    vectors = [get(parent, f"dim{number}") for number in range(first, first + count)]
    if not all(_is_vector(vector) for vector in vectors):
        return []
    return [Axis(vector[1] - vector[0], attribute(vector, "units")) for vector in vectors]


def _is_vector(item: Any) -> bool:
    is_list = isinstance(item, h5py.Dataset) and item.ndim == 1 and item.size > 1
    return is_list and item.dtype.kind in "uif"
