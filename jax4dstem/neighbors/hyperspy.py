"""Signals of HyperSpy, and so of pyxem: patterns in and out, maps out, with the sizes and units of their axes."""

from contextlib import nullcontext
from typing import Any

import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.fields import Result
from jax4dstem.io.scales import Axis, calibrate, energy, from_axes
from jax4dstem.io.sources import GridSource
from jax4dstem.neighbors.blocks import dask_patterns, read_patterns
from jax4dstem.neighbors.maps import find_maps
from jax4dstem.pipeline.results import Results

NAMES = ("scan_y", "scan_x", "det_y", "det_x")
ENERGY = "Acquisition_instrument.TEM.beam_energy"
DETECTOR_UNIT = "1/Å"


def from_hyperspy(signal: Any) -> Dataset:
    """A dataset of the patterns of a signal; lazy signals stay lazy.

    Signal axes are the detector's, navigation axes the scan's, in whatever order they are stored; a signal with one navigation
    axis is a scan of one row. Sizes and units of axes, and the beam energy, become the calibration.

    Args:
        signal: A ``Signal2D``, ``ElectronDiffraction2D`` ..., with at most two navigation axes.

    Returns:
        The dataset; its notes say what of the axes was understood. Offsets are left out: where the direct beam is follows from
        the patterns.

    Raises:
        InputError: The signal has another number of axes.

    Example:
        >>> import hyperspy.api as hs  # doctest: +SKIP
        >>> scan = from_hyperspy(hs.load("scan.hspy", lazy=True))  # doctest: +SKIP
    """
    manager = signal.axes_manager
    scan, detector = manager.navigation_axes, manager.signal_axes  # x first
    if len(detector) != 2 or len(scan) > 2:
        raise InputError(
            f"the signal has {len(detector)} signal and {len(scan)} navigation axes; expected 2 and at most 2: "
            "transpose it, or take one of a series"
        )
    axes = [None, None, *reversed(detector)]
    axes[2 - len(scan) : 2] = reversed(scan)
    added = 2 - len(scan)
    data = signal.data[(None,) * added]
    order = tuple(i if axis is None else axis.index_in_array + added for i, axis in enumerate(axes))
    source = GridSource(
        lambda: nullcontext(data), data.shape, data.dtype, order, getattr(data, "chunksize", None)
    )
    told = from_axes([_told(axis) for axis in axes], NAMES, "the axes of the signal")
    kilovolts = signal.metadata.get_item(ENERGY, default=None)
    calibration, notes = calibrate((told, energy(kilovolts, "the metadata of the signal")))
    return Dataset(source, calibration, notes=notes)


def to_hyperspy(scan: Dataset, *, lazy: bool = False, signal_type: str = "") -> Any:
    """The patterns as a HyperSpy signal with navigation axes x, y and signal axes kx, ky.

    Step, detector pixel and beam energy go with it; rotation, flip and ellipse have no place in a signal's axes.

    Args:
        scan: Patterns, as the dataset's chain makes them.
        lazy: Leave them where they are until HyperSpy asks for them (needs Dask, which HyperSpy brings).
        signal_type: Such as "electron_diffraction", with pyxem.

    Returns:
        A ``Signal2D``, or ``LazySignal2D``.

    Raises:
        InputError: HyperSpy is not installed.

    Example:
        >>> scan = Dataset.from_array(np.ones((2, 3, 8, 8)))
        >>> to_hyperspy(scan, signal_type="electron_diffraction")  # doctest: +SKIP
        <ElectronDiffraction2D, title: , dimensions: (3, 2|8, 8)>
    """
    signals = _hyperspy().signals
    if lazy:
        signal = signals.Signal2D(dask_patterns(scan)).as_lazy()
    else:
        whole = (slice(0, size) for size in scan.scan_shape)
        signal = signals.Signal2D(read_patterns(scan, *whole))
    pixel, unit = scan.calibration.reciprocal_units
    pixels = scan.calibration.pixel_y_inv_angstrom or pixel, pixel
    _set_scan_axes(signal.axes_manager.navigation_axes, scan.calibration)
    for axis, name, size in zip(
        reversed(signal.axes_manager.signal_axes), ("ky", "kx"), pixels, strict=True
    ):
        _set_axis(axis, name, size, "" if unit == "px" else DETECTOR_UNIT)
    if scan.calibration.energy_kv is not None:
        signal.metadata.set_item(ENERGY, scan.calibration.energy_kv)
    if signal_type:
        signal.set_signal_type(signal_type)
    return signal


def map_to_hyperspy(
    results: Result | Results, name: str, calibration: Calibration | None = None
) -> Any:
    """A map of results as a HyperSpy ``Signal2D`` with axes x and y in nm; components of a vector along a navigation axis.

    Args:
        results: Answers of a run, or a single one.
        name: Of the map, as for `export_maps`.
        calibration: Of the scan; by default that of the results.

    Returns:
        The signal; its title is the path of the map, its quantity the meaning and units of the values.

    Raises:
        InputError: There is no such map, or HyperSpy is not installed.

    Example:
        >>> from jax4dstem import open_results
        >>> map_to_hyperspy(open_results("out"), "e_xx").plot()  # doctest: +SKIP
    """
    if calibration is None:
        calibration = results.calibration if isinstance(results, Results) else Calibration()
    maps = find_maps(results.fields(), [name])
    data = maps[0].data if len(maps) == 1 else np.stack([item.data for item in maps])
    signal = _hyperspy().signals.Signal2D(data)
    _set_scan_axes(signal.axes_manager.signal_axes, calibration)
    signal.metadata.General.title = maps[0].path if len(maps) == 1 else maps[0].path.split("[")[0]
    units = f" ({maps[0].units})" if maps[0].units else ""
    signal.metadata.set_item("Signal.quantity", maps[0].about + units)
    return signal


def _hyperspy() -> Any:
    try:
        import hyperspy.api
    except ImportError as error:
        raise InputError("HyperSpy is not installed: pip install 'jax4dstem[hyperspy]'") from error
    return hyperspy.api


def _told(axis: Any) -> Axis:
    """Scale and units; none where the axis is not uniform."""
    return Axis(getattr(axis, "scale", None), str(getattr(axis, "units", "")))


def _set_scan_axes(axes: Any, calibration: Calibration) -> None:
    """Of a signal's x and y axis."""
    steps, unit = calibration.scan_steps
    for axis, name, size in zip(axes, ("x", "y"), steps[::-1], strict=True):
        _set_axis(axis, name, size, unit if unit == "nm" else "")


def _set_axis(axis: Any, name: str, size: float, unit: str) -> None:
    axis.name, axis.scale = name, size
    if unit:
        axis.units = unit
