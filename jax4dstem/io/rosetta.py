"""Everything RosettaSciIO reads (GPL-3): an optional extra, imported only here and only when needed."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.dataset import Doubt
from jax4dstem.errors import InputError
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.listening import listening
from jax4dstem.io.scales import Axis, energy, finite

BEGINNINGS = {".blo": b"IMGBLO"}  # of formats whose reader goes on without
ADVICE = "pip install 'jax4dstem[formats]'"


class _NoScan(Exception):
    """A reader makes nothing of a file that could be a scan."""


def read(path: Path, layout: Layout) -> Stored:
    """Find the scan with the first RosettaSciIO reader for the file's suffix that fits its content."""
    failures = []
    for plugin in _plugins(path):
        with listening("rsciio") as heard:
            try:
                _check_beginning(path)
                signals = import_module(plugin["api"]).file_reader(str(path), lazy=True)
                signal = _scan_of(signals)
                _last_pattern(signal["data"])
            except ImportError as error:
                failures.append(f"{plugin['name']}: needs {error.name or error}: {ADVICE}")
                continue
            except Exception as error:  # readers raise whatever a broken file makes them
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                failures.append(f"{plugin['name']}: {reason}")
                continue
        doubts = (*map(Doubt, heard), *_other_signals(signals, signal), *_lost_frames(signal))
        return _stored(path, signal, plugin["name"], doubts)
    raise InputError(f"{path} cannot be read, or is truncated ({'; '.join(failures)})")


def _stored(path: Path, signal: dict[str, Any], name: str, doubts: tuple[str, ...]) -> Stored:
    data = signal["data"]

    @contextmanager
    def open_array() -> Iterator[Any]:
        yield data

    beam = signal.get("metadata", {}).get("Acquisition_instrument", {}).get("TEM", {})
    axes = tuple(Axis(axis.get("scale"), axis.get("units")) for axis in signal.get("axes", []))
    # No chunks: these are memory maps, and Dask's cuts of 128 MiB are no reason to read as much.
    return Stored(
        open_array,
        data.shape,
        np.dtype(data.dtype),
        str(path),
        path.name,
        axes_told=axes if len(axes) == data.ndim else (),
        scales=(energy(beam.get("beam_energy")),),
        notes=(f"format: {name}, read by RosettaSciIO", *doubts),
    )


def _check_beginning(path: Path) -> None:
    expected = BEGINNINGS.get(path.suffix.lower(), b"")
    with path.open("rb") as file:
        found = file.read(len(expected))
    if found != expected:
        raise _NoScan(f"it begins with {found!r}, not {expected!r}")


def _plugins(path: Path) -> list[Any]:
    """Readers for a suffix; several formats share some."""
    try:
        rsciio: Any = import_module("rsciio")
    except ImportError as error:
        raise InputError(
            f"{path}: the format {path.suffix or '(no suffix)'} needs RosettaSciIO: {ADVICE}"
        ) from error
    suffix = path.suffix.lower().lstrip(".")
    plugins = [p for p in rsciio.IO_PLUGINS if suffix in p["file_extensions"]]
    if not plugins or not suffix:
        if beside := _beside(path, rsciio):
            raise InputError(
                f"{path}: unknown format {path.suffix}; beside it is {beside}: is that meant?"
            )
        raise InputError(
            f"{path}: unknown format {path.suffix or '(no suffix)'}; read are .h5, .mat, .npy, .npz, .zarr, .zspy, .tif, .raw, what "
            "RosettaSciIO reads (.mib, .blo, .dm4, .mrc ...), and bare counts with detector_shape and dtype"
        )
    return plugins


def _beside(path: Path, rsciio: Any) -> str:
    """The files of the same name of which one may be meant: a header such as Merlin's .hdr was given instead of its counts."""
    known = {f".{suffix}" for plugin in rsciio.IO_PLUGINS for suffix in plugin["file_extensions"]}
    alike = sorted(path.parent.glob(f"{glob.escape(path.stem)}.*"))
    return " or ".join(other.name for other in alike if other.suffix.lower() in known)


def _scan_of(signals: list[dict[str, Any]]) -> dict[str, Any]:
    """The signal with the most axes (some formats hold a preview beside the scan)."""
    # Not np.size: it would load a lazy array.
    patterns = [signal for signal in signals if _could_be(signal["data"])]
    if not patterns:
        shapes = ", ".join(f"{signal['data'].dtype} {signal['data'].shape}" for signal in signals)
        raise _NoScan(f"no patterns of numbers, but {shapes or 'nothing'}")
    return max(patterns, key=lambda signal: (signal["data"].ndim, prod(signal["data"].shape)))


def _could_be(data: Any) -> bool:
    return data.ndim > 1 and np.dtype(data.dtype).kind in "buif" and 0 not in data.shape


def _last_pattern(data: Any) -> None:
    """Read it: lazy readers notice only then that a file is too short for what its header says."""
    last = data[(-1,) * (data.ndim - 2)]
    np.asarray(last.compute() if hasattr(last, "compute") else last)


def _lost_frames(signal: dict[str, Any]) -> tuple[Doubt, ...]:
    """Merlin's header tells how many patterns were wanted; of an aborted scan whole rows are read."""
    header = signal.get("original_metadata", {}).get("hdr_file") or {}
    wanted = finite(header.get("Frames in Acquisition (Number)")) or 0
    found = prod(signal["data"].shape[:-2])
    if found >= wanted:
        return ()
    return (
        Doubt(f"{found} of {wanted:g} patterns are read: an aborted scan, without its last row"),
    )


def _other_signals(signals: list[dict[str, Any]], chosen: dict[str, Any]) -> tuple[Doubt, ...]:
    alike = [s["data"].shape for s in signals if s["data"].ndim == chosen["data"].ndim]
    if len(alike) < 2:
        return ()
    return (Doubt(f"the file holds {len(alike)} scans {alike}: the largest is read"),)
