"""Which array of a file is the scan."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

from jax4dstem.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]


def choose(shapes: Shapes, key: str | None, path: Path) -> tuple[str, str]:
    """The array that is the scan, by name or because no other can be; and why.

    Args:
        shapes: Shapes by name of all numeric arrays.
        key: The array, or a group that holds it.
        path: For messages.

    Raises:
        InputError: The key is missing, nothing is a scan, or several could be.
    """
    if key is not None and key.strip("/") in shapes:
        return key.strip("/"), f"dataset {key.strip('/')}: given"
    shapes = within(shapes, key, path)
    for dimensions in (4, 3):
        scans = {name: shape for name, shape in shapes.items() if len(shape) == dimensions}
        if dimensions == 4 and len(scans) > 1:
            scans = _named_data(scans)
        if len(scans) > 1:
            raise InputError(
                f"{path} holds several possible scans, choose one with key: {told(scans)}"
            )
        if scans:
            (name,) = scans
            _check_not_a_detail(name, shapes, path)
            return name, f"dataset {name}: the only one with {dimensions} axes"
    raise InputError(f"{path} holds no dataset with 4 (or 3) axes; it has {told(shapes)}")


def within(shapes: Shapes, key: str | None, path: Path) -> Shapes:
    """The arrays below a group.

    Raises:
        InputError: There is no such group.
    """
    if key is None:
        return shapes
    below = {name: s for name, s in shapes.items() if name.startswith(key.strip("/") + "/")}
    if not below:
        raise InputError(f"{path} has no dataset {key!r}; it has {told(shapes)}")
    return below


def told(shapes: Shapes) -> str:
    """Names and shapes for a message."""
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no numeric dataset"


def _named_data(scans: Shapes) -> Shapes:
    """EMD, py4DSTEM and hspy call the scan "data"; other arrays of four axes are derived from it."""
    data = {name: s for name, s in scans.items() if name.rpartition("/")[2] == "data"}
    return data if len(data) == 1 else scans


def _check_not_a_detail(name: str, shapes: Shapes, path: Path) -> None:
    largest = max(shapes, key=lambda other: prod(shapes[other]))
    if prod(shapes[name]) < prod(shapes[largest]) / 2:
        raise InputError(
            f"{path}: the largest dataset {largest} has {len(shapes[largest])} axes "
            f"{shapes[largest]}, which is no scan; name the one to read with key: {told(shapes)}"
        )
