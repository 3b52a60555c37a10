"""The explorer as one file that needs neither server nor network: everything it shows is in it."""

import html
import json
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import expm1, log1p, prod
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError, OutputError
from jax4dstem.explore.assets import OFFLINE, asset
from jax4dstem.explore.parts import band_rows
from jax4dstem.explore.subject import Subject
from jax4dstem.io.results import write_bytes
from jax4dstem.patterns.cepstrum import GAUSSIAN_SHARE, covered_radius
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Float, Num

BUDGET = 30 * 2**20  # bytes of the file: still opened and sent without a thought
MAPS_SHARE = 1 / 3  # of the budget, for maps; the rest is for patterns
UNPACKED = (
    128 * 2**20
)  # bytes of patterns in the browser: a virtual image of them takes about 0.2 s
SMALLEST = 32  # px along a side of a pattern that detector pixels are summed down to
LEVELS = 255
FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
LOOKED_AT = 8  # blocks along each axis of the scan from which the packed size is foretold
MARGIN = 1.05  # of the foretold size


@dataclass(frozen=True)
class Quantization:
    r"""Counts as 8-bit levels of a logarithm.

    .. math:: q = \mathrm{round} \left( 255 \ln(1 + I/u) / s \right) , \qquad s = \ln(1 + I_\mathrm{max}/u)

    Attributes:
        unit: u; one count where counts are whole numbers.
        span: s.

    Reference: ours.
    """

    unit: float
    span: float

    @classmethod
    def of(cls, counts: np.ndarray, whole: bool) -> "Quantization":
        """That of the largest count; ``whole``: counts are whole numbers."""
        largest = max(float(counts.max(initial=0.0)), 1e-30)
        unit = 1.0 if whole else 1e-4 * largest
        return cls(unit, log1p(largest / unit))

    @property
    def error(self) -> float:
        """Largest error of a count I, relative to I + u."""
        return expm1(0.5 * self.span / LEVELS)

    def levels(self, counts: np.ndarray) -> np.ndarray:
        """Of counts; below zero, and where nothing is known, zero."""
        known = np.nan_to_num(np.maximum(counts, 0.0))
        return np.rint(np.log1p(known / self.unit) * (LEVELS / self.span)).astype(np.uint8)


@dataclass(frozen=True)
class Store:
    """Patterns as they are in the file."""

    levels: np.ndarray
    quantization: Quantization
    per: int
    bin: int

    @property
    def words(self) -> str:
        """What was done to the patterns."""
        unit = f"{self.quantization.unit:.3g}"
        return (
            f"offline: patterns are sums of {self.per} x {self.per} positions and {self.bin} x {self.bin} detector "
            f"pixels, in 8 bit: a count I is right within {self.quantization.error:.1%} of I + {unit}"
        )


def write_page(
    subject: Subject,
    path: str | Path,
    budget: int = BUDGET,
    say: Callable[[str], Any] = print,
) -> Path:
    """Write the explorer of a subject as one self-contained file.

    Patterns are summed over neighboring positions and detector pixels and quantized until they fit; maps are as they
    are, in single precision, those that do not fit left out. The page says all of this, and so does ``say``.

    Args:
        subject: What is explored.
        path: Of the file.
        budget: Its size in bytes, at most.
        say: Receives a line on what was left out, and the size.

    Returns:
        The path.

    Raises:
        InputError: The budget is smaller than the page without any data.
        OutputError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> with tempfile.NamedTemporaryFile(suffix=".html") as file:
        ...     page = write_page(Subject.of(scan), file.name, say=lambda line: None)
        ...     page.read_text().startswith("<!doctype html>")
        True
    """
    path = Path(path)
    meta = subject.meta().about
    module, style = asset("explorer.js"), asset("explorer.css")
    left = budget - len(module) - len(style) - 2**16
    if left <= 0:
        raise InputError(f"the page alone takes more than {budget} bytes")
    arrays, blobs, missing = _maps(subject, int(left * MAPS_SHARE))
    meta["maps"] = [item for item in meta["maps"] if item["name"] in arrays]
    meta["embedding"] = meta["embedding"] if "@points" in arrays else None
    meta["lattices"] = meta["lattices"] if "@places" in arrays else None
    about: dict[str, Any] = {"arrays": arrays, "store": None}
    notes = [f"not in this file, for its size: {', '.join(missing)}"] if missing else []
    if subject.scan is not None:
        room = left - sum(map(len, blobs.values()))
        store, packed = _fitting(subject.scan, room)
        notes.insert(0, store.words)
        blobs["patterns"] = packed
        _describe_patterns(meta, store)
        quantization = store.quantization
        about["store"] = {
            "scan": store.levels.shape[:2],
            "shape": store.levels.shape[2:],
            "unit": quantization.unit,
            "span": quantization.span,
        }
    meta["residual"], meta["notes"] = False, [*meta["notes"], *notes]
    text = OFFLINE.format(
        title=html.escape(f"{subject.name} - jax4dstem"),
        style=style,
        module=module,
        blobs="\n".join(_scripts(about | {"meta": meta}, blobs)),
    )
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    for note in notes:
        say(note)
    say(f"written   {path}, {len(text.encode()) / 2**20:.1f} of at most {budget / 2**20:.0f} MiB")
    return path


def _scripts(about: dict[str, Any], blobs: dict[str, bytes]) -> Iterator[str]:
    yield _script("about", "application/json", json.dumps(about).replace("</", "<\\/"))
    for name, text in blobs.items():
        yield _script(name, "text/plain", text.decode())


def _script(name: str, kind: str, text: str) -> str:
    return f'<script type="{kind}" id="{name}">{text}</script>'


def _packed(array: np.ndarray) -> bytes:
    return b64encode(zlib.compress(array.tobytes(), 6))


def _maps(
    subject: Subject, room: int
) -> tuple[dict[str, dict[str, Any]], dict[str, bytes], list[str]]:
    """Where each array is, the packed arrays, and the names of those that do not fit."""
    wanted = {name: item.data for name, item in subject.maps.items()}
    special = {
        "@points": None if subject.embedding is None else subject.embedding[1],
        "@places": None if subject.lattices is None else subject.lattices[1],
    }
    wanted |= {name: data for name, data in special.items() if data is not None}
    arrays, blobs, missing = {}, {}, []
    for number, (name, data) in enumerate(wanted.items()):
        packed = _packed(np.asarray(data, "<f4"))
        if len(packed) > room:
            missing.append(
                {"@points": "the embedding", "@places": "fitted lattices"}.get(name, name)
            )
            continue
        room -= len(packed)
        blobs[f"array{number}"] = packed
        arrays[name] = {"blob": f"array{number}", "shape": list(data.shape)}
    return arrays, blobs, missing


def _describe_patterns(meta: dict[str, Any], store: Store) -> None:
    """What the page knows of patterns, in pixels of those that are in the file."""
    patterns, pixel = meta["patterns"], meta["pixel"]
    height, width = store.levels.shape[2:]
    center = [(c + 0.5) / store.bin - 0.5 for c in patterns["center"]]
    covered = covered_radius(np.array(center), (height, width))
    calibrated = pixel["unit"] != "px"
    pixel["size"] *= store.bin
    patterns |= {
        "shape": [height, width],
        "center": center,
        "radius": patterns["radius"] / store.bin,
        "step": 1,
        "per": store.per,
        "bin": store.bin,
        "quefrency": {
            "window": GAUSSIAN_SHARE * covered,
            "step": 1 / (width * pixel["size"]) if calibrated else 1.0,
            "unit": "Å" if calibrated else "px",
        },
    }


def _fitting(scan: Dataset, room: int) -> tuple[Store, bytes]:
    """The least reduced patterns that fit, and their packed bytes."""
    for per, factor in _reductions(scan):
        reduced = _unpacked_size(scan, per, factor)
        if reduced > UNPACKED or _foretold(scan, per, factor, reduced) > room:
            continue
        store = _store(scan, per, factor)
        packed = _packed(store.levels)
        if len(packed) <= room:
            return store, packed
    raise InputError(f"the patterns cannot be reduced to {room} bytes: give a larger budget")


def _reductions(scan: Dataset) -> list[tuple[int, int]]:
    """Positions and pixels summed along each side, the least reduction first, of equal ones that with less difference."""
    scan_side, side = min(scan.scan_shape), min(scan.pattern_shape)
    pairs = [
        (per, factor)
        for per in FACTORS
        for factor in FACTORS
        if per <= scan_side and (factor == 1 or side // factor >= SMALLEST)
    ]
    return sorted(pairs, key=lambda pair: (prod(pair), abs(pair[0] - pair[1])))


def _unpacked_size(scan: Dataset, per: int, factor: int) -> int:
    return prod(n // per for n in scan.scan_shape) * prod(n // factor for n in scan.pattern_shape)


def _foretold(scan: Dataset, per: int, factor: int, unpacked: int) -> float:
    """Packed size of all patterns, from a few blocks of positions all over the scan."""
    rows, cols = (
        [
            block * per + i
            for block in np.unique(np.linspace(0, n // per - 1, LOOKED_AT, dtype=int)).tolist()
            for i in range(per)
        ]
        for n in scan.scan_shape
    )
    sample = _store(scan.sample_scan(rows, cols), per, factor).levels
    return MARGIN * len(_packed(sample)) * unpacked / sample.size


def _store(scan: Dataset, per: int, factor: int) -> Store:
    counts = _sums(scan, per, factor)
    quantization = Quantization.of(counts, scan.dtype.kind in "iub")
    return Store(quantization.levels(counts), quantization, per, factor)


def _sums(scan: Dataset, per: int, factor: int) -> np.ndarray:
    """Sums over blocks of positions and of detector pixels; incomplete blocks at the rim are dropped."""
    rows, cols = (n // per for n in scan.scan_shape)
    binned = scan.bin_detector(factor)
    height, width = binned.pattern_shape
    sums = np.empty((rows, cols, height, width), np.float32)
    band = max(1, band_rows(scan) // per)
    for start in range(0, rows, band):
        stop = min(start + band, rows)
        values = map_patterns(_counts, binned[start * per : stop * per])
        blocks = np.asarray(values)[:, : cols * per].reshape(
            stop - start, per, cols, per, height, width
        )
        sums[start:stop] = blocks.sum(axis=(1, 3))
    return sums


def _counts(pattern: Num[Array, "det_y det_x"]) -> Float[Array, "det_y det_x"]:
    return pattern.astype(float)
