"""How a stored array becomes a scan: what the user said, and what the file says."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io.axes import C_ORDER, order_by_units
from jax4dstem.io.scales import Axis, Told, from_axes
from jax4dstem.io.sources import (
    GridSource,
    Indexed,
    Opener,
    Single,
    StackSource,
    fit_scan,
    readable_dtype,
)


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
    index: int | None = None
    header_bytes: int = 0
    gap_bytes: int = 0
    footer_bytes: int = 0

    @property
    def is_raw(self) -> bool:
        """Whether it tells type and shape of the patterns of a file that tells nothing itself."""
        return self.detector_shape is not None and self.dtype is not None

    @property
    def given_scan(self) -> tuple[tuple[int, int], str] | None:
        """The scan shape that was given."""
        return None if self.scan_shape is None else (self.scan_shape, "given")

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
        shape: Of the array: 4 axes, a stack of patterns (3), a series of scans (5), or one pattern (2).
        dtype: As stored.
        path: The file that holds the numbers.
        name: For messages.
        chunks: Along the stored axes.
        axes: Names of the stored axes and why; None where units or C order decide.
        axes_told: Scale and units of every stored axis, where the file tells them.
        scan_shape: Of a stack, and why.
        scales: Further scales and where they come from, the best first.
        notes: How the array was found.
        tells_frames: False for a file without header, whose type and shape must be given.
        pixel_mask: Pixels that the file says cannot be used, True.
    """

    open: Opener
    shape: tuple[int, ...]
    dtype: np.dtype
    path: str
    name: str
    chunks: tuple[int, ...] | None = None
    axes: tuple[tuple[str, ...], str] | None = None
    axes_told: tuple[Axis, ...] = ()
    scan_shape: tuple[tuple[int, int], str] | None = None
    scales: tuple[Told, ...] = ()
    notes: tuple[str, ...] = ()
    tells_frames: bool = True
    pixel_mask: np.ndarray | None = None


@dataclass(frozen=True)
class Opened:
    """A stored array as a scan.

    Attributes:
        source: Reads patterns.
        scales: All that the file tells, the best first.
        notes: How shape, type and order were decided.
    """

    source: GridSource | StackSource
    scales: tuple[Told, ...]
    notes: tuple[str, ...]


def as_scan(stored: Stored, layout: Layout) -> Opened:
    """A source for a stored array, with notes on how shape, type and order were decided.

    Raises:
        InputError: The array is no scan: wrong number of axes, empty, wrong shape or type.
    """
    _check_given(stored, layout)
    axes, why_axes = _axes(stored, layout)
    if 0 in stored.shape:
        raise InputError(f"{stored.name} is empty: shape {stored.shape}")
    cast = layout.cast()
    dtype = readable_dtype(cast or stored.dtype)
    notes = (why_axes, f"type {dtype}: {_why_type(stored.dtype, cast, dtype)}")
    scales = stored.scales
    if stored.axes_told:
        scales = (*scales, from_axes(stored.axes_told, axes, "the axes in the file"))
    if "series" in axes:
        stored, axes, why = _one_of_series(stored, axes, layout.index)
        notes = (*notes, why)
    elif layout.index is not None:
        raise InputError(f"index is for a series of scans; {stored.name} has shape {stored.shape}")
    if len(axes) == 4:
        return Opened(_grid(stored, layout, axes, cast), scales, notes)
    source, why_scan = _stack(stored, layout, axes, cast)
    return Opened(source, scales, (*notes, *why_scan))


def _check_given(stored: Stored, layout: Layout) -> None:
    """Raise InputError for what was given and would have no effect."""
    if not stored.tells_frames:
        return
    given = [
        name for name in ("header_bytes", "gap_bytes", "footer_bytes") if getattr(layout, name)
    ]
    shape = layout.detector_shape
    if shape is not None and sorted(shape) != sorted(stored.shape[-2:]):
        given.append("detector_shape")
    if given:
        raise InputError(
            f"{given[0]} is for bare .raw files of given dtype and detector_shape; {stored.name} tells "
            f"its own: shape {stored.shape}"
        )


def _one_of_series(
    stored: Stored, axes: tuple[str, ...], number: int | None
) -> tuple[Stored, tuple[str, ...], str]:
    """One scan of a series."""
    axis = axes.index("series")
    length, rest = stored.shape[axis], _without(stored.shape, axis)
    if number is None and length > 1:
        raise InputError(
            f"{stored.name} holds a series of {length} scans, each {' x '.join(map(str, rest))} "
            f"({', '.join(_without(axes, axis))}): choose one with --index, 0 to {length - 1}"
        )
    number = number or 0
    if number >= length:
        raise InputError(f"index {number}: {stored.name} holds {length} scans, 0 to {length - 1}")

    @contextmanager
    def open_one() -> Iterator[Indexed]:
        with stored.open() as series:
            yield Indexed(series, axis, number)

    one = replace(
        stored,
        open=open_one,
        shape=rest,
        chunks=stored.chunks and _without(stored.chunks, axis),
    )
    return one, _without(axes, axis), f"scan {number} of a series of {length}"


def _without(values: tuple[Any, ...], index: int) -> tuple[Any, ...]:
    return values[:index] + values[index + 1 :]


def _grid(
    stored: Stored, layout: Layout, axes: tuple[str, ...], cast: np.dtype | None
) -> GridSource:
    if layout.frame_skip or layout.flyback:
        raise InputError("frame_skip and flyback are for stacks of patterns; this array is 4D")
    order = tuple(axes.index(name) for name in C_ORDER[4])
    source = GridSource(stored.open, stored.shape, stored.dtype, order, stored.chunks, cast)
    if layout.scan_shape is not None and layout.scan_shape != source.shape[:2]:
        raise InputError(
            f"scan_shape {layout.scan_shape[0]} x {layout.scan_shape[1]} does not fit: the scan "
            f"in the file is {source.shape[0]} x {source.shape[1]}"
        )
    return source


def _stack(
    stored: Stored, layout: Layout, axes: tuple[str, ...], cast: np.dtype | None
) -> tuple[StackSource, tuple[str, ...]]:
    known = layout.given_scan or stored.scan_shape
    if "frame" not in axes:
        stored, axes = _as_stack(stored), ("frame", *axes)
        known = known or ((1, 1), "a single pattern")
    order = tuple(axes.index(name) for name in C_ORDER[3])
    scan_shape, why = fit_scan(stored.shape[order[0]], known, layout.frame_skip, layout.flyback)
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


def _as_stack(pattern: Stored) -> Stored:
    """A single pattern as a stack of one."""

    @contextmanager
    def open_stack() -> Iterator[Single]:
        with pattern.open() as array:
            yield Single(array)

    return replace(pattern, open=open_stack, shape=(1, *pattern.shape), chunks=None)


def _axes(stored: Stored, layout: Layout) -> tuple[tuple[str, ...], str]:
    """Names of the stored axes, and why."""
    expected = C_ORDER.get(len(stored.shape))
    if expected is None:
        raise InputError(
            f"{stored.name} has {len(stored.shape)} axes {stored.shape}; expected 4 (scan_y, scan_x, "
            "det_y, det_x), 3 for a stack of patterns, 5 for a series of scans, or 2 for one pattern"
        )
    if layout.axes is not None:
        axes, why = tuple(name.strip() for name in layout.axes.split(",")), "given"
        if sorted(axes) != sorted(expected):
            raise InputError(
                f"axes {layout.axes!r} must name {', '.join(expected)} once each, in stored order"
            )
    else:
        told = stored.axes or order_by_units(stored.axes_told)
        axes, why = told or (expected, "C order, as stored")
    return axes, f"axes {', '.join(axes)}: {why}"


def _why_type(stored: np.dtype, cast: np.dtype | None, dtype: np.dtype) -> str:
    if cast is not None and cast != stored:
        return f"given; stored as {stored}"
    if stored.newbyteorder("=") == dtype:
        return "as stored" if stored.isnative else "as stored (byte order swapped)"
    return f"stored as {stored}, read as the nearest type JAX computes with"
