"""Which array of a file is the scan."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

from jax4dstem.dataset import Doubt
from jax4dstem.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]
RANKS = {4: "scan", 3: "stack of patterns", 5: "series of scans", 2: "pattern"}  # best first
SMALLEST_SIDE = (
    4  # px of a pattern: arrays with a shorter axis at their end are lists of vectors or matrices
)
MATRIX = (4, 4)  # and so are those that end in this
LISTED = 20  # names in a message


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
    patterns = {name: shape for name, shape in shapes.items() if could_hold_patterns(shape)}
    large = {name: shape for name, shape in patterns.items() if not _is_detail(shape, shapes)}
    if patterns and not large:
        raise InputError(
            f"{path}: the largest dataset {_largest(shapes)} is no scan; name the one to read with "
            f"key: {told(shapes)}"
        )
    for rank, kind in RANKS.items():
        scans = {name: shape for name, shape in large.items() if len(shape) == rank}
        if rank == 4 and len(scans) > 1:
            scans = _named_data(scans)
        if len(scans) > 1 and rank > 2:
            raise InputError(
                f"{path} holds several possible scans, choose one with key: {told(scans)}"
            )
        if len(scans) == 1:
            (name,) = scans
            return name, _why(name, kind, patterns)
    raise InputError(
        f"{path} holds no scan (4 axes), stack of patterns (3) or series of scans (5); it has "
        f"{told(shapes)}"
    )


def could_hold_patterns(shape: tuple[int, ...]) -> bool:
    """Whether an array is no table of vectors or matrices: its last two axes are a pattern, in the order of any format.

    Example:
        >>> [could_hold_patterns(shape) for shape in ((2, 2), (9, 3, 3), (8, 100, 2), (3, 2, 64, 64))]
        [False, False, False, True]
    """
    sides = shape[-2:]
    is_table = sides == MATRIX or any(0 < size < SMALLEST_SIDE for size in sides)
    return 2 <= len(shape) <= 5 and not is_table


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
    """Names and shapes for a message, without tables where there are patterns."""
    patterns = {name: shape for name, shape in shapes.items() if could_hold_patterns(shape)}
    listed = [f"{name} {shape}" for name, shape in (patterns or shapes).items()]
    more = [f"and {len(listed) - LISTED} more"] if len(listed) > LISTED else []
    return ", ".join(listed[:LISTED] + more) or "no numeric dataset"


def _named_data(scans: Shapes) -> Shapes:
    """EMD, py4DSTEM and hspy call the scan "data"; other arrays of four axes are derived from it."""
    data = {name: s for name, s in scans.items() if name.rpartition("/")[2] == "data"}
    return data if len(data) == 1 else scans


def _is_detail(shape: tuple[int, ...], shapes: Shapes) -> bool:
    """Whether an array has less than half of the numbers of the largest."""
    return prod(shape) < prod(shapes[_largest(shapes)]) / 2


def _largest(shapes: Shapes) -> str:
    return max(shapes, key=lambda name: prod(shapes[name]))


def _why(name: str, kind: str, patterns: Shapes) -> str:
    others = {other: s for other, s in patterns.items() if other != name and len(s) > 2}
    if not others:
        return f"dataset {name}: the only one that could be a {kind}"
    return Doubt(
        f"dataset {name} is read as a {kind}, not the smaller {told(others)}: choose with key"
    )
