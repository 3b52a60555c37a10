"""Everything RosettaSciIO reads (GPL-3): an optional extra, imported only here and only when needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.hdf5 import axes_calibration
from jax4dstem.io.layout import Layout, Stored, as_source


def read(path: Path, layout: Layout) -> Dataset:
    """Open a file with the RosettaSciIO reader for its suffix."""
    try:
        rsciio: Any = import_module("rsciio")
    except ImportError as error:
        raise InputError(
            f"{path}: the format {path.suffix or '(no suffix)'} needs RosettaSciIO: "
            "pip install 'jax4dstem[formats]'"
        ) from error
    suffix = path.suffix.lower().lstrip(".")
    plugin = next((p for p in rsciio.IO_PLUGINS if suffix in p["file_extensions"]), None)
    if plugin is None or not suffix:
        raise InputError(f"{path}: unknown format {path.suffix or '(no suffix)'}")
    try:
        signals = import_module(plugin["api"]).file_reader(str(path), lazy=True)
    except Exception as error:  # readers raise whatever a broken file makes them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as {plugin['name']}: {reason}") from error
    return _dataset(_scan_of(signals, path), plugin["name"], path, layout)


def _scan_of(signals: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    """The signal with the most axes (some formats hold a preview beside the scan)."""
    if not signals:
        raise InputError(f"{path} holds no data")
    return max(signals, key=lambda signal: (np.ndim(signal["data"]), np.size(signal["data"])))


def _dataset(signal: dict[str, Any], reader: str, path: Path, layout: Layout) -> Dataset:
    data = signal["data"]
    chunks = tuple(axis[0] for axis in data.chunks) if hasattr(data, "chunks") else None

    @contextmanager
    def open_array() -> Iterator[Any]:
        yield data

    stored = Stored(open_array, data.shape, np.dtype(data.dtype), chunks, name=path.name)
    source, notes = as_source(stored, layout)
    beam = signal.get("metadata", {}).get("Acquisition_instrument", {}).get("TEM", {})
    calibration, why = axes_calibration(signal.get("axes", []))
    energy = beam.get("beam_energy")
    calibration = replace(calibration, energy_kv=float(energy) if energy else None)
    format_note = f"format: {reader}, read by RosettaSciIO"
    return Dataset(source, calibration, notes=(format_note, *notes, *why), path=str(path))
