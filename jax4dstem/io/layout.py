"""How a stored array becomes a scan: what the user said, and what the array looks like."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io.sources import GridSource, Opener, StackSource, fit_scan, readable_dtype

AXES_4D = ("scan_y", "scan_x", "det_y", "det_x")
AXES_3D = ("frame", "det_y", "det_x")


@dataclass(frozen=True)
class Layout:
    """What the user said of the file; None is for the reader to find out."""

    key: str | None = None
    scan_shape: tuple[int, int] | None = None
    dtype: str | None = None
    axes: str | None = None
    frame_skip: int = 0
    flyback: int = 0
    detector_shape: tuple[int, int] | None = None

    def cast(self) -> np.dtype | None:
        """The type to convert to.

        Raises:
            InputError: NumPy does not know the type.
        """
        if self.dtype is None:
            return None
        try:
            return np.dtype(self.dtype)
        except TypeError as error:
            raise InputError(f"dtype {self.dtype!r} is not a type such as uint16 or >f4") from error


@dataclass(frozen=True)
class Stored:
    """An array in a file: how to open it, its shape, type and chunks, and what its axes are."""

    open: Opener
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None = None
    axes: tuple[str, ...] | None = None
    scan_shape: tuple[int, int] | None = None
    name: str = "the array"


def as_source(stored: Stored, layout: Layout) -> tuple[GridSource | StackSource, tuple[str, ...]]:
    """A source for a stored array, and notes on how shape, type and order were decided.

    Raises:
        InputError: The array is no scan: wrong number of axes, empty, wrong shape or type.
    """
    axes, notes = _axes(stored, layout)
    if 0 in stored.shape:
        raise InputError(f"{stored.name} is empty: shape {stored.shape}")
    cast = layout.cast()
    dtype = readable_dtype(cast or stored.dtype)
    notes.append(f"type {dtype}: " + _why_type(stored.dtype, cast, dtype))
    if len(stored.shape) == 4:
        scan_y, scan_x, det_y, det_x = (axes.index(name) for name in AXES_4D)
        source = GridSource(
            stored.open,
            stored.shape,
            stored.dtype,
            (scan_y, scan_x, det_y, det_x),
            stored.chunks,
            cast,  # type: ignore[arg-type]
        )
        if layout.frame_skip or layout.flyback:
            raise InputError("frame_skip and flyback are for stacks of patterns; this array is 4D")
        if layout.scan_shape is not None and layout.scan_shape != source.shape[:2]:
            raise InputError(
                f"scan_shape {layout.scan_shape[0]} x {layout.scan_shape[1]} does not fit: the scan "
                f"in the file is {source.shape[0]} x {source.shape[1]}"
            )
        return source, tuple(notes)
    wanted = layout.scan_shape or stored.scan_shape
    scan_shape, why = fit_scan(stored.shape[0], wanted, layout.frame_skip, layout.flyback)
    swap = axes == ("frame", "det_x", "det_y")
    detector = stored.shape[1:][::-1] if swap else stored.shape[1:]
    chunk = stored.chunks[0] if stored.chunks else 1
    source = StackSource(
        stored.open,
        scan_shape,
        detector,  # type: ignore[arg-type]
        stored.dtype,
        layout.frame_skip,
        layout.flyback,
        cast,
        chunk,
        swap,
    )
    return source, (*notes, why)


def _axes(stored: Stored, layout: Layout) -> tuple[tuple[str, ...], list[str]]:
    dimensions = len(stored.shape)
    if dimensions not in (3, 4):
        raise InputError(
            f"{stored.name} has {dimensions} axes {stored.shape}; expected 4 (scan_y, scan_x, det_y, "
            "det_x), or 3 for a stack of patterns"
        )
    expected = AXES_4D if dimensions == 4 else AXES_3D
    if layout.axes is not None:
        axes = tuple(name.strip() for name in layout.axes.split(","))
        allowed = [expected] if dimensions == 4 else [expected, ("frame", "det_x", "det_y")]
        if sorted(axes) != sorted(expected) or (dimensions == 3 and axes not in allowed):
            raise InputError(
                f"axes {layout.axes!r} must name {', '.join(expected)} once each, in stored order"
            )
        return axes, [f"axes {', '.join(axes)}: given"]
    if stored.axes is not None:
        return stored.axes, []
    return expected, [f"axes {', '.join(expected)}: C order, as stored"]


def _why_type(stored: np.dtype, cast: np.dtype | None, dtype: np.dtype) -> str:
    if cast is not None and cast != stored:
        return f"given; stored as {stored}"
    if stored.newbyteorder("=") == dtype:
        order = " (byte order swapped)" if stored.newbyteorder("=") != stored else ""
        return f"as stored{order}"
    return f"stored as {stored}, read as the nearest type JAX computes with"
