"""Everything RosettaSciIO reads (GPL-3): an optional extra, imported only here and only when needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.scales import energy, from_axes


def read(path: Path, layout: Layout) -> Stored:
    """Find the scan with the RosettaSciIO reader for the file's suffix."""
    suffix = path.suffix.lower().lstrip(".")
    plugin = _plugin(suffix, path)
    try:
        signals = import_module(plugin["api"]).file_reader(str(path), lazy=True)
    except Exception as error:  # readers raise whatever a broken file makes them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as {plugin['name']}: {reason}") from error
    signal = _scan_of(signals, path)
    data = signal["data"]

    @contextmanager
    def open_array() -> Iterator[Any]:
        yield data

    beam = signal.get("metadata", {}).get("Acquisition_instrument", {}).get("TEM", {})
    # No chunks: these are memory maps, and Dask's cuts of 128 MiB are no reason to read as much.
    return Stored(
        open_array,
        data.shape,
        np.dtype(data.dtype),
        str(path),
        path.name,
        scales=(
            (from_axes(signal.get("axes", [])), "the axes in the file"),
            (energy(beam.get("beam_energy")), "the metadata in the file"),
        ),
        notes=(f"format: {plugin['name']}, read by RosettaSciIO",),
    )


def _plugin(suffix: str, path: Path) -> Any:
    try:
        rsciio: Any = import_module("rsciio")
    except ImportError as error:
        raise InputError(
            f"{path}: the format {path.suffix or '(no suffix)'} needs RosettaSciIO: "
            "pip install 'jax4dstem[formats]'"
        ) from error
    plugin = next((p for p in rsciio.IO_PLUGINS if suffix in p["file_extensions"]), None)
    if plugin is None or not suffix:
        raise InputError(f"{path}: unknown format {path.suffix or '(no suffix)'}")
    return plugin


def _scan_of(signals: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    """The signal with the most axes (some formats hold a preview beside the scan)."""
    if not signals:
        raise InputError(f"{path} holds no data")
    # Not np.size: it would load a lazy array.
    shapes = [signal["data"].shape for signal in signals]
    best = max(range(len(signals)), key=lambda i: (len(shapes[i]), prod(shapes[i])))
    return signals[best]
