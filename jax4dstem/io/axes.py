"""Which stored axis is which: names of axes, and what their units say."""

from collections.abc import Sequence

import numpy as np

from jax4dstem.io.scales import Axis
from jax4dstem.io.units import is_blank, parse_unit

C_ORDER = {
    5: ("series", "scan_y", "scan_x", "det_y", "det_x"),
    4: ("scan_y", "scan_x", "det_y", "det_x"),
    3: ("frame", "det_y", "det_x"),
    2: ("det_y", "det_x"),
}
MATLAB_ORDER = {
    5: ("series", "scan_x", "scan_y", "det_x", "det_y"),
    4: ("scan_x", "scan_y", "det_x", "det_y"),
    3: ("frame", "det_x", "det_y"),
    2: ("det_x", "det_y"),
}
COARSEST_SCAN_UNIT = 1.0  # nm: pixels of detectors are told in µm, mm or cm


def order_by_units(axes: Sequence[Axis]) -> tuple[tuple[str, ...], str] | None:
    """Names of the stored axes where the units tell them, and how; None where they do not.

    Two axes in reciprocal lengths or angles are the detector's. Where no axis has such a unit, two in nm, Å or pm among
    axes without units are the scan's.

    Example:
        >>> order_by_units([Axis(1, unit) for unit in ("mrad", "mrad", "nm", "nm")])[0]
        ('det_y', 'det_x', 'scan_y', 'scan_x')
    """
    units = [parse_unit(axis.units) for axis in axes]
    detector = [i for i, unit in enumerate(units) if unit and unit.kind != "length"]
    if len(axes) == 4 and not detector:
        fine = [i for i, u in enumerate(units) if u and u.size <= COARSEST_SCAN_UNIT]
        detector = [i for i, axis in enumerate(axes) if is_blank(axis.units)] if fine else []
        if len(fine) != 2:
            return None
    if len(detector) != 2 or len(axes) not in (3, 4, 5):
        return None
    others = [i for i in range(len(axes)) if i not in detector]
    names = dict(zip(detector, ("det_y", "det_x"), strict=True))
    names |= dict(zip(others, C_ORDER[len(axes)][:-2], strict=True))
    told = ", ".join(str(axis.units) for axis in axes)
    return tuple(names[i] for i in range(len(axes))), f"their units ({told}) tell it"


def seem_exchanged(sums: np.ndarray, mean: np.ndarray) -> bool:
    """Whether patterns differ from each other by more than the pixels of their mean do.

    The direct beam makes the pixels of a pattern differ far more than specimens make patterns; where it is the other way
    round, what is read as positions is likely to be the detector.

    Args:
        sums: Of each pattern, any shape; NaN is passed over.
        mean: Of the patterns, ``(det_y, det_x)``, in the same unit.

    Example:
        >>> data = np.ones((9, 9, 4, 4))  # detector axes first
        >>> data[4, 4] = 50.0
        >>> seem_exchanged(data.sum(axis=(2, 3)), data.mean(axis=(0, 1)))
        True
    """
    return bool(np.nanstd(sums) / mean.size > np.nanstd(mean))
