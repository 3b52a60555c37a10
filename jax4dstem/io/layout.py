"""How a stored array becomes a scan: what the user said, and what the file says."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io.scales import Sourced
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
        """The type that was given.

        Raises:
            InputError: NumPy does not know the type, or it is not a real number.
        """
        if self.dtype is None:
            return None
        try:
            dtype = np.dtype(self.dtype)
        except TypeError as error:
            raise InputError(f"dtype {self.dtype!r} is not a type such as uint16 or >f4") from error
        readable_dtype(dtype)
        return dtype


@dataclass(frozen=True)
class Stored:
    """What a reader finds: an array, how to open it, and all that the file says of it.

    Attributes:
        open: Gives the array for one read.
        shape: Of the array, 4 axes or a stack of patterns with 3.
        dtype: As stored.
        path: The file that holds the numbers.
        name: For messages.
        chunks: Along the stored axes.
        axes: Names of the stored axes and why; None for C order.
        scan_shape: Of a stack, and why.
        scales: Scales and where they come from, the best first.
        notes: How the array was found.
    """

    open: Opener
    shape: tuple[int, ...]
    dtype: np.dtype
    path: str
    name: str
    chunks: tuple[int, ...] | None = None
    axes: tuple[tuple[str, ...], str] | None = None
    scan_shape: tuple[tuple[int, int], str] | None = None
    scales: tuple[Sourced, ...] = ()
    notes: tuple[str, ...] = ()


def as_source(stored: Stored, layout: Layout) -> tuple[GridSource | StackSource, tuple[str, ...]]:
    """A source for a stored array, and notes on how shape, type and order were decided.

    Raises:
        InputError: The array is no scan: wrong number of axes, empty, wrong shape or type.
    """
    axes, why_axes = _axes(stored, layout)
    if 0 in stored.shape:
        raise InputError(f"{stored.name} is empty: shape {stored.shape}")
    cast = layout.cast()
    dtype = readable_dtype(cast or stored.dtype)
    notes = (why_axes, f"type {dtype}: {_why_type(stored.dtype, cast, dtype)}")
    if len(axes) == 4:
        return _grid(stored, layout, axes, cast), notes
    source, why_scan = _stack(stored, layout, axes, cast)
    return source, (*notes, why_scan)


def _grid(
    stored: Stored, layout: Layout, axes: tuple[str, ...], cast: np.dtype | None
) -> GridSource:
    if layout.frame_skip or layout.flyback:
        raise InputError("frame_skip and flyback are for stacks of patterns; this array is 4D")
    order = tuple(axes.index(name) for name in AXES_4D)
    source = GridSource(stored.open, stored.shape, stored.dtype, order, stored.chunks, cast)
    if layout.scan_shape is not None and layout.scan_shape != source.shape[:2]:
        raise InputError(
            f"scan_shape {layout.scan_shape[0]} x {layout.scan_shape[1]} does not fit: the scan "
            f"in the file is {source.shape[0]} x {source.shape[1]}"
        )
    return source


def _stack(
    stored: Stored, layout: Layout, axes: tuple[str, ...], cast: np.dtype | None
) -> tuple[StackSource, str]:
    order = tuple(axes.index(name) for name in AXES_3D)
    known = stored.scan_shape if layout.scan_shape is None else (layout.scan_shape, "given")
    n_frames = stored.shape[order[0]]
    scan_shape, why = fit_scan(n_frames, known, layout.frame_skip, layout.flyback)
    source = StackSource(
        stored.open,
        scan_shape,
        stored.shape,
        stored.dtype,
        order,
        stored.chunks,
        cast,
        layout.frame_skip,
        layout.flyback,
    )
    return source, why


def _axes(stored: Stored, layout: Layout) -> tuple[tuple[str, ...], str]:
    """Names of the stored axes, and why."""
    expected = {4: AXES_4D, 3: AXES_3D}.get(len(stored.shape))
    if expected is None:
        raise InputError(
            f"{stored.name} has {len(stored.shape)} axes {stored.shape}; expected 4 (scan_y, scan_x, "
            "det_y, det_x), or 3 for a stack of patterns"
        )
    if layout.axes is not None:
        axes, why = tuple(name.strip() for name in layout.axes.split(",")), "given"
        if sorted(axes) != sorted(expected):
            raise InputError(
                f"axes {layout.axes!r} must name {', '.join(expected)} once each, in stored order"
            )
    else:
        axes, why = stored.axes or (expected, "C order, as stored")
    return axes, f"axes {', '.join(axes)}: {why}"


def _why_type(stored: np.dtype, cast: np.dtype | None, dtype: np.dtype) -> str:
    if cast is not None and cast != stored:
        return f"given; stored as {stored}"
    if stored.newbyteorder("=") == dtype:
        return "as stored" if stored.isnative else "as stored (byte order swapped)"
    return f"stored as {stored}, read as the nearest type JAX computes with"
