"""What HDF5 dialects write beside their arrays: scales and the shape of the scan."""

from typing import Any

import h5py
import numpy as np

from jax4dstem.io.scales import Sourced, energy, from_attributes, from_axes, text


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


def scales_of(file: h5py.File, item: Any) -> tuple[Sourced, ...]:
    """Scales from plain attributes, py4DSTEM's calibration, hspy axes, EMD dimension vectors."""
    plain = from_attributes(item.attrs, item.parent.attrs, file.attrs)
    beam = get(item.parent, "metadata/Acquisition_instrument/TEM")
    beam_energy = None if beam is None else beam.attrs.get("beam_energy")
    return (
        (plain, "attributes in the file"),
        (from_axes(_py4dstem_axes(file, item)), "the py4DSTEM calibration in the file"),
        (from_axes(_hspy_axes(item.parent)), "the axes in the file"),
        (from_axes(_emd_axes(item.parent)), "the dimension vectors in the file"),
        (energy(beam_energy), "the metadata in the file"),
    )


def _py4dstem_axes(file: h5py.File, item: Any) -> list[dict[str, Any]]:
    """Sizes and units of real (R) and diffraction (Q) pixels in the root's metadata bundle."""
    root = item.name.split("/")[1]
    group = get(file, f"{root}/metadatabundle/calibration")
    if not isinstance(group, h5py.Group):
        return []

    def value(name: str) -> Any:
        stored = get(group, name)
        return stored[()] if isinstance(stored, h5py.Dataset) else None

    return [
        {
            "scale": value(f"{space}_pixel_size"),
            "units": value(f"{space}_pixel_units"),
            "navigate": space == "R",
        }
        for space in "QR"
    ]


def _hspy_axes(parent: h5py.Group) -> list[dict[str, Any]]:
    groups = (get(parent, f"axis-{number}") for number in range(4))
    return [dict(group.attrs) for group in groups if isinstance(group, h5py.Group)]


def _emd_axes(parent: h5py.Group) -> list[dict[str, Any]]:
    """Vectors dim0 to dim3, or dim1 to dim4 in older files."""
    first = 0 if "dim0" in parent else 1
    vectors = [get(parent, f"dim{number}") for number in range(first, first + 4)]
    if not all(_is_vector(vector) for vector in vectors):
        return []
    return [
        {
            "scale": vector[1] - vector[0],
            "units": vector.attrs.get("units", ""),
            "navigate": number < 2,
        }
        for number, vector in enumerate(vectors)
    ]


def _is_vector(item: Any) -> bool:
    is_list = isinstance(item, h5py.Dataset) and item.ndim == 1 and item.size > 1
    return is_list and item.dtype.kind in "uif"
