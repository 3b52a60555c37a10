"""What stands in the brackets of ``scan[...]``, as rows and columns."""

import operator
from typing import Any

from jax4dstem.errors import InputError


def chosen_positions(key: Any, scan_shape: tuple[int, int]) -> tuple[int | range, int | range]:
    """Rows and columns that an index names; what it leaves out is all.

    Args:
        key: What stands in the brackets: numbers and slices, of rows and columns.
        scan_shape: ``(scan_y, scan_x)``.

    Returns:
        For rows and columns, a number or a range that is not empty.

    Raises:
        InputError: There are none such.

    Example:
        >>> chosen_positions((-1, slice(2, None, 2)), (4, 8))
        (3, range(2, 8, 2))
    """
    keys = key if isinstance(key, tuple) else (key,)
    keys = tuple(k for k in keys if k is not Ellipsis)
    if len(keys) > 2:
        raise InputError(
            f"a scan takes rows and columns, not {len(keys)} indices: scan[y, x][rows, cols] cuts a pattern, "
            "scan.crop_detector all of them"
        )
    rows, cols = (*keys, slice(None), slice(None))[:2]
    return _chosen(rows, "row", scan_shape[0]), _chosen(cols, "column", scan_shape[1])


def _chosen(key: Any, name: str, size: int) -> int | range:
    if isinstance(key, slice):
        found = range(*key.indices(size))
        if found.step < 0 or not found:
            ends = (key.start, key.stop, *([key.step] if key.step is not None else []))
            text = ":".join("" if k is None else str(k) for k in ends)
            raise InputError(
                f"{name}s {text} of {size} are none: give start < stop, and a step > 0"
            )
        return found
    try:
        number = operator.index(key)
    except TypeError:
        raise InputError(
            f"a {name} of a scan is a whole number or a slice, not {type(key).__name__}; "
            "scan.at(mask) takes a boolean map of positions"
        ) from None
    if not -size <= number < size:
        raise InputError(f"there is no {name} {number}: the scan has {size}, from 0")
    return number % size
