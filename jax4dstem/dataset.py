"""Lazy datasets: a source that reads tiles of the scan, and a chain of pattern functions."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jax4dstem import above
from jax4dstem.coordinates import Calibration
from jax4dstem.errors import InputError
from jax4dstem.indexing import chosen_positions
from jax4dstem.memory import check_memory, in_bytes
from jax4dstem.thumbnail import html_of, pictures
from jax4dstem.typing import Array, Num

THUMBNAIL_BYTES = 16 * 2**20  # read for a picture in a notebook: a tenth of a second from a disk
THUMBNAIL_CHUNKS = 4, 32  # along a side of the scan, however large or small a chunk is


class Doubt(str):
    """A note that says what may be wrong with the data, or with how they are read."""


@runtime_checkable
class PatternSource(Protocol):
    """Where raw patterns come from: anything that reads a rectangle of the scan.

    A source whose file ends before the scan does also has ``missing``, ``(scan_y, scan_x)``: True where there is no pattern.
    What it reads there is blank or NaN.
    """

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(scan_y, scan_x, det_y, det_x)``."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored numbers, in the machine's byte order."""
        ...

    @property
    def chunks(self) -> tuple[int, int]:
        """Scan rows and columns that are cheapest to read together."""
        ...

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Patterns of that rectangle, ``(rows, cols, det_y, det_x)``; they must not change later.

        A view of a fresh memory map is best: the CPU then computes on the file's pages.
        """
        ...


@dataclass(frozen=True)
class ArraySource:
    """Patterns held in memory as one 4D array."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array."""
        return self.array.shape  # type: ignore[return-value]

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return self.array.dtype

    @property
    def chunks(self) -> tuple[int, int]:
        """Any rectangle is cheap."""
        return 1, 1

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Slice the array."""
        return self.array[rows, cols]


@dataclass(frozen=True)
class SourceView:
    """What is made of another source, and has of it what it does not say itself."""

    source: PatternSource

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the source."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the source."""
        return self.source.dtype

    @property
    def chunks(self) -> tuple[int, int]:
        """Chunks of the source."""
        return self.source.chunks

    @property
    def missing(self) -> np.ndarray:
        """Positions of which the source holds no pattern."""
        return missing_positions(self.source)


@dataclass(frozen=True)
class ScanCrop(SourceView):
    """A rectangle ``[y0, y1) x [x0, x1)`` of another source's scan."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the rectangle."""
        return self.y1 - self.y0, self.x1 - self.x0, *self.source.shape[2:]

    @property
    def missing(self) -> np.ndarray:
        """Those of the source."""
        return missing_positions(self.source)[self.y0 : self.y1, self.x0 : self.x1]

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Read from the source, moved by the crop's origin."""
        return self.source.read(
            slice(self.y0 + rows.start, self.y0 + rows.stop),
            slice(self.x0 + cols.start, self.x0 + cols.stop),
        )


@dataclass(frozen=True)
class ScanSample(SourceView):
    """The positions where chosen rows and columns of another source's scan cross."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Number of rows and columns, and the detector."""
        return len(self.rows), len(self.cols), *self.source.shape[2:]

    @property
    def chunks(self) -> tuple[int, int]:
        """Any rectangle."""
        return 1, 1

    @property
    def missing(self) -> np.ndarray:
        """Those of the source."""
        return missing_positions(self.source)[np.ix_(self.rows, self.cols)]

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Read each run of positions that are neighbors, or stored in one chunk, with one call."""
        height, width = self.source.chunks
        return np.concatenate(
            [
                np.concatenate(
                    [
                        self.source.read(y, x)[pick_y][:, pick_x]
                        for x, pick_x in _runs(self.cols[cols], width)
                    ],
                    axis=1,
                )
                for y, pick_y in _runs(self.rows[rows], height)
            ]
        )


@dataclass(frozen=True)
class ScanWithout(SourceView):
    """Another source's scan without some positions: in floating point, with NaN there."""

    masked: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """The type that JAX computes with."""
        return np.dtype(np.float32)

    @property
    def missing(self) -> np.ndarray:
        """Those of the source, and the masked ones."""
        return missing_positions(self.source) | self.masked

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Read from the source, and put NaN in what is masked."""
        patterns = self.source.read(rows, cols).astype(np.float32)
        patterns[self.masked[rows, cols]] = np.nan
        return patterns


@dataclass(frozen=True)
class ListedPositions(SourceView):
    """Some positions of another source, one below the other."""

    rows: np.ndarray
    cols: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """One column of positions."""
        return (len(self.rows), 1, *self.source.shape[2:])

    @property
    def chunks(self) -> tuple[int, int]:
        """Positions are read one by one."""
        return (1, 1)

    @property
    def missing(self) -> np.ndarray:
        """Those of the source."""
        return missing_positions(self.source)[self.rows, self.cols][:, None]

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Read the patterns, those of a row of the scan at once."""
        listed_rows, listed_cols = self.rows[rows], self.cols[rows]
        patterns = np.empty((len(listed_rows), 1, *self.shape[2:]), self.dtype)
        for row in np.unique(listed_rows):
            here = np.flatnonzero(listed_rows == row)
            first, last = listed_cols[here].min(), listed_cols[here].max()
            seen = self.source.read(slice(row, row + 1), slice(first, last + 1))
            patterns[here, 0] = seen[0, listed_cols[here] - first]
        return patterns[:, cols]


def _spread(size: int, chunk: int, most: int) -> tuple[int, ...]:
    """Up to 32 of so many rows, in at most ``most`` chunks: the rows of a chunk are read together anyway."""
    chunks = -(-size // chunk)
    chosen = np.unique(np.linspace(0, chunks - 1, min(most, chunks)).astype(int))
    there = np.concatenate([np.arange(c * chunk, min((c + 1) * chunk, size)) for c in chosen])
    shown = np.linspace(0, len(there) - 1, min(THUMBNAIL_CHUNKS[1], len(there))).astype(int)
    return tuple(there[shown].tolist())


def _runs(numbers: tuple[int, ...], chunk: int) -> list[tuple[slice, np.ndarray]]:
    """Slices that hold the numbers, and where in them; a compressed chunk is as slow to read as one of its parts."""
    follows = [b == a + 1 or (b > a and b // chunk == a // chunk) for a, b in pairwise(numbers)]
    edges = [0, *(i + 1 for i, same in enumerate(follows) if not same), len(numbers)]
    parts = [numbers[a:b] for a, b in pairwise(edges)]
    return [(slice(part[0], part[-1] + 1), np.subtract(part, part[0])) for part in parts]


@dataclass(frozen=True)
class Step:
    """One pattern function of a chain, called ``fn(pattern, *per_position, *shared)``."""

    fn: Callable
    shared: tuple[Any, ...] = ()
    per_position: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A 4D-STEM scan: raw patterns on disk or in memory, plus what happens to each when it is read.

    Nothing is read until a lift (`map_patterns`, `reduce_patterns`) asks for it. `map` adds a pattern
    function to the chain; the chain is compiled into the same kernel as whatever is lifted over the
    dataset, so preprocessing costs no second pass and no copy on disk.

    ``scan[y, x]`` is a pattern, ``scan[10:20, ::2]`` the lazy scan of those rows and columns, ``np.asarray(scan)`` all
    patterns; all as the chain makes them.

    Attributes:
        source: Reads rectangles of the scan.
        calibration: Physical scales.
        steps: The chain of pattern functions.
        notes: How shape, type and calibration were decided, one sentence each.
        path: The file, where there is one.
        mask: Pixels of a pattern that the file says cannot be used, True, ``(det_y, det_x)``; None where it does not tell.

    Example:
        >>> import numpy as np
        >>> scan = Dataset.from_array(np.ones((2, 3, 8, 8), np.uint16))
        >>> scan.map(lambda pattern, gain: gain * pattern, 2.0)[1, 2].sum().item()
        128.0
        >>> scan[:, 1:]
        <Dataset: 2 x 2 positions, 8 x 8 px, uint16, 512 bytes, step 1 positions, pixel 1 px>
    """

    source: PatternSource
    calibration: Calibration = field(default_factory=Calibration)
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    path: str | None = None
    mask: np.ndarray | None = None

    @classmethod
    def from_array(cls, array: np.ndarray, calibration: Calibration | None = None) -> "Dataset":
        """Wrap a 4D array.

        Raises:
            InputError: The array is not 4D or has an empty axis.
        """
        check_shape(array.shape, "the array")
        return cls(ArraySource(array), calibration or Calibration())

    def with_calibration(self, **changes: Any) -> "Dataset":
        """The same patterns with other scales or axes.

        Args:
            changes: Attributes of `Calibration`.

        Example:
            >>> scan = Dataset.from_array(np.ones((2, 3, 8, 8), np.uint16))
            >>> scan.with_calibration(scan_rotation=0.5).calibration.scan_rotation
            0.5
        """
        return replace(self, calibration=replace(self.calibration, **changes))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the raw data, ``(scan_y, scan_x, det_y, det_x)``."""
        return self.source.shape

    @property
    def scan_shape(self) -> tuple[int, int]:
        """``(scan_y, scan_x)``."""
        return self.shape[:2]

    @property
    def detector_shape(self) -> tuple[int, int]:
        """Shape of a raw pattern, ``(det_y, det_x)``."""
        return self.shape[2:]

    @property
    def pattern_shape(self) -> tuple[int, int]:
        """Shape of a pattern after the chain: the detector's, unless a step crops or bins."""
        return self.sample.shape

    @property
    def sample(self) -> Any:
        """Shape and dtype of what the chain makes of one pattern, which may be no pattern any more."""
        return value_spec(self, self.steps)

    @property
    def dtype(self) -> np.dtype:
        """Type of the raw data."""
        return self.source.dtype

    @property
    def n_patterns(self) -> int:
        """Number of scan positions."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Size of the raw patterns in bytes, uncompressed."""
        return self.n_patterns * prod(self.detector_shape) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> Any:
        """A pattern, or a part of the scan.

        Args:
            key: ``[y, x]`` gives the pattern there, ``(det_y, det_x)`` in NumPy. Anything with a slice gives the lazy scan
                of those rows and columns; a number beside it is a single row or column. A boolean map of the scan gives
                those positions, as `at` does.

        Raises:
            InputError: There is no such position.
        """
        if isinstance(key, np.ndarray) and key.dtype == bool:
            return self.at(key)
        rows, cols = chosen_positions(key, self.scan_shape)
        if isinstance(rows, int) and isinstance(cols, int):
            return self._pattern(rows, cols)
        rows, cols = (range(k, k + 1) if isinstance(k, int) else k for k in (rows, cols))
        if rows.step == cols.step == 1:
            return self.crop_scan(rows.start, rows.stop, cols.start, cols.stop)
        part = self.sample_scan(rows, cols)
        return replace(part, calibration=self.calibration.every(rows.step, cols.step))

    def __iter__(self) -> Any:
        """A scan is not gone through in Python: see `map_patterns`."""
        raise InputError(
            "a scan cannot be looped over: map_patterns(fn, scan) calls fn with every pattern, "
            "np.asarray(scan) reads all of them, scan[y, x] one"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All patterns, ``(scan_y, scan_x, det_y, det_x)``, as the chain makes them, for ``np.asarray(scan)``.

        Raises:
            InputError: They take more than half of the machine's memory, or the chain does not make one array.
        """
        if copy is False:
            raise InputError(
                "the patterns of a scan are read from its source: copy=False cannot be"
            )
        made = self.sample
        if not isinstance(made, jax.ShapeDtypeStruct):
            raise InputError("the chain of this dataset makes several arrays: use map_patterns")
        size = self.n_patterns * prod(made.shape) * made.dtype.itemsize
        check_memory(max(self.nbytes, size), "np.asarray of this scan", "scan[:64]")
        if self.steps:
            return np.asarray(above.name("map_patterns")(_same, self), dtype)
        height, width = self.scan_shape
        return np.array(self.source.read(slice(0, height), slice(0, width)), dtype)

    def _pattern(self, y: int, x: int) -> Any:
        """What the chain makes of one pattern."""
        pattern = np.array(self.source.read(slice(y, y + 1), slice(x, x + 1))[0, 0])
        if not self.steps:
            return pattern
        per_position, shared = self._arguments()
        here = jax.tree.map(lambda leaf: leaf[y, x], per_position)
        made = chain(tuple(step.fn for step in self.steps))(pattern, here, shared)
        return jax.tree.map(np.asarray, made)

    def _arguments(self) -> tuple[Any, Any]:
        """Of all steps: what differs per position, as arrays over the scan, and what does not."""
        per_position = tuple(step.per_position for step in self.steps)
        return jax.tree.map(np.asarray, per_position), tuple(step.shared for step in self.steps)

    def __repr__(self) -> str:
        """File, shape, type, size and scales in one line; nothing is read."""
        name = f" {Path(self.path).name}" if self.path else ""
        scan, detector, kind, size, step, pixel = self._words()
        return f"<Dataset{name}: {scan}, {detector}, {kind}, {size}, step {step}, pixel {pixel}>"

    def _words(self) -> tuple[str, ...]:
        return (
            f"{self.shape[0]} x {self.shape[1]} positions",
            f"{self.shape[2]} x {self.shape[3]} px" + self._steps_in_words(),
            str(self.dtype),
            in_bytes(self.nbytes),
            *self.calibration.in_words,
        )

    def _steps_in_words(self) -> str:
        if not self.steps:
            return ""
        made = self.sample
        shape = getattr(made, "shape", None)
        result = (
            "several arrays" if shape is None else f"{' x '.join(map(str, shape))} {made.dtype}"
        )
        return f" in {len(self.steps)} step{'s' * (len(self.steps) > 1)} to {result}"

    def _repr_html_(self) -> str:
        """The same for notebooks, with a picture of few raw patterns: a dark field of part of the scan, and their mean."""
        try:
            few = self._few()
        except (OSError, InputError):  # a file that is gone must still be described
            few = None
        shown = None if few is None else pictures(few, self.scan_shape)
        name = Path(self.path).name if self.path else "in memory"
        titles = ("scan", "detector", "type", "size", "step", "pixel")
        notes = tuple(("doubt", doubt) for doubt in self.doubts)
        rows = (("Dataset", name), *zip(titles, self._words(), strict=True), *notes)
        return html_of(rows, shown)

    def _few(self) -> np.ndarray:
        """Raw patterns of rows and columns all over the scan, few enough to be read while one waits."""
        height, width = self.source.chunks
        chunk = self.nbytes // self.n_patterns * height * width
        most = int(np.clip(np.sqrt(THUMBNAIL_BYTES / chunk), *THUMBNAIL_CHUNKS))
        rows, cols = map(_spread, self.scan_shape, (height, width), (most, most))
        few = ScanSample(self.source, rows, cols)
        return few.read(slice(0, len(rows)), slice(0, len(cols)))

    def plot(self) -> Any:
        """Mean pattern and dark field of the scan, whose patterns are read once.

        Returns:
            A matplotlib figure; see `plots.scan_overview`.
        """
        return above.name("plots").scan_overview(self)

    @property
    def missing(self) -> np.ndarray:
        """Positions of which the file holds no pattern, as after an aborted scan: ``(scan_y, scan_x)``."""
        return missing_positions(self.source)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Those notes that say what may be wrong."""
        return tuple(note for note in self.notes if isinstance(note, Doubt))

    def map(self, fn: Callable, *shared: Any, per_position: Sequence[Any] = ()) -> "Dataset":
        """Add a pattern function to the chain; nothing is computed yet.

        Args:
            fn: A pure function, called ``fn(pattern, *per_position, *shared)`` on one pattern.
            shared: Parameters (pytrees of arrays) that are the same for all positions.
            per_position: Pytrees of arrays with leading axes ``(scan_y, scan_x)``.

        Returns:
            A dataset over the same source with the longer chain.

        Raises:
            InputError: A per-position argument does not have the shape of the scan.
        """
        check_per_position(per_position, self.scan_shape)
        return replace(self, steps=(*self.steps, Step(fn, shared, tuple(per_position))))

    def crop_scan(self, y0: int, y1: int, x0: int, x1: int) -> "Dataset":
        """Restrict the scan to ``[y0, y1) x [x0, x1)``; only those patterns are read.

        Raises:
            InputError: The rectangle is empty or leaves the scan.
        """
        height, width = self.scan_shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                f"scan crop rows {y0}:{y1}, columns {x0}:{x1} is empty or outside the "
                f"{height} x {width} scan"
            )
        source = ScanCrop(self.source, y0, y1, x0, x1)
        return self._over(source, (slice(y0, y1), slice(x0, x1)))

    def without(self, masked: np.ndarray) -> "Dataset":
        """The scan without the patterns of some positions, as if the file did not have them.

        Args:
            masked: True for those positions, ``(scan_y, scan_x)``.

        Raises:
            InputError: The mask has another shape than the scan.
        """
        if masked.shape != self.scan_shape:
            raise InputError(
                f"the scan mask has the shape {masked.shape}, the scan {self.scan_shape}"
            )
        return replace(self, source=ScanWithout(self.source, masked.astype(bool)))

    def sample_scan(self, rows: Sequence[int], cols: Sequence[int]) -> "Dataset":
        """Keep the positions where the given rows and columns cross; only those patterns are read.

        Raises:
            InputError: A row or column is outside the scan.
        """
        for name, chosen, size in zip(
            ("row", "column"), (rows, cols), self.scan_shape, strict=True
        ):
            if not len(chosen) or min(chosen) < 0 or max(chosen) >= size:
                raise InputError(f"a {name} to sample lies outside the {size} {name}s of the scan")
        source = ScanSample(self.source, tuple(map(int, rows)), tuple(map(int, cols)))
        return self._over(source, np.ix_(source.rows, source.cols))

    def at(self, chosen: np.ndarray) -> "Dataset":
        """The chosen positions alone, row by row of the scan, as a scan of one column.

        Args:
            chosen: True for those positions, ``(scan_y, scan_x)``.

        Raises:
            InputError: The mask has another shape than the scan.
        """
        if chosen.shape != self.scan_shape:
            raise InputError(
                f"the scan mask has the shape {chosen.shape}, the scan {self.scan_shape}"
            )
        rows, cols = np.nonzero(chosen)
        return self._over(ListedPositions(self.source, rows, cols), (rows[:, None], cols[:, None]))

    def _over(self, source: PatternSource, where: Any) -> "Dataset":
        """The same of some positions; ``where`` they are in arrays over the scan."""
        steps = tuple(
            replace(
                step,
                per_position=jax.tree.map(lambda leaf: np.asarray(leaf)[where], step.per_position),
            )
            for step in self.steps
        )
        return replace(self, source=source, steps=steps)

    def crop_detector(self, y0: int, y1: int, x0: int, x1: int) -> "Dataset":
        """Restrict every pattern to ``[y0, y1) x [x0, x1)``.

        Raises:
            InputError: The rectangle is empty or leaves the detector.
        """
        height, width = self.pattern_shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                f"detector crop rows {y0}:{y1}, columns {x0}:{x1} is empty or outside the "
                f"{height} x {width} detector"
            )
        mask = None if self.mask is None else self.mask[y0:y1, x0:x1]
        return replace(self.map(CropDetector(y0, y1, x0, x1)), mask=mask)

    def bin_detector(self, factor: int) -> "Dataset":
        """Sum ``factor`` x ``factor`` pixels of every pattern; an incomplete rim is dropped.

        Raises:
            InputError: The factor is smaller than 1 or larger than the detector.
        """
        if not 1 <= factor <= min(self.detector_shape):
            raise InputError(
                f"cannot bin a {self.detector_shape[0]} x {self.detector_shape[1]} detector by {factor}"
            )
        if factor == 1:
            return self
        binned = self.map(BinDetector(factor))
        mask = self.mask
        if mask is not None:  # a sum with a masked pixel is one
            height, width = (size // factor * factor for size in mask.shape)
            blocks = mask[:height, :width].reshape(
                height // factor, factor, width // factor, factor
            )
            mask = blocks.any(axis=(1, 3))
        return replace(binned, calibration=self.calibration.binned(factor), mask=mask)


@functools.lru_cache(maxsize=256)  # the same function again is not traced again
def chain(fns: tuple[Callable, ...]) -> Callable:
    """The functions of several steps as one, of a pattern and all their arguments."""

    def run(pattern: Any, per_position: Any, shared: Any) -> Any:
        for fn, per, common in zip(fns, per_position, shared, strict=True):
            pattern = fn(pattern, *per, *common)
        return pattern

    # Inlined, so that it is as if it were not there; but shapes, and scans of another size, trace it no second time.
    return jax.jit(run, inline=True)


def _same(pattern: Any) -> Any:
    return pattern


def value_spec(dataset: Dataset, steps: tuple[Step, ...]) -> Any:
    """Shapes and dtypes of what a chain returns at one position of a scan.

    Raises:
        InputError: A step fails, and has been given a map of the scan as if it were the same for all positions.
    """

    def spec(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))

    per_position = jax.tree.map(
        lambda leaf: spec(np.shape(leaf)[2:], np.asarray(leaf).dtype),
        tuple(step.per_position for step in steps),
    )
    shared = tuple(step.shared for step in steps)
    pattern = spec(dataset.detector_shape, dataset.dtype)
    try:
        return jax.eval_shape(
            chain(tuple(step.fn for step in steps)), pattern, per_position, shared
        )
    except Exception as error:
        for leaf in jax.tree.leaves(shared):
            if np.shape(leaf)[:2] == dataset.scan_shape:
                raise InputError(
                    f"an argument of shape {np.shape(leaf)} is given whole to every pattern, and the function fails: "
                    "pass what differs between positions as per_position=(values,)"
                ) from error
        raise


@dataclass(frozen=True)
class CropDetector:
    """Pattern function: the rectangle ``[y0, y1) x [x0, x1)`` of a pattern."""

    y0: int
    y1: int
    x0: int
    x1: int

    def __call__(self, pattern: Num[Array, "det_y det_x"]) -> Num[Array, "crop_y crop_x"]:
        """Return the rectangle."""
        return pattern[self.y0 : self.y1, self.x0 : self.x1]


@dataclass(frozen=True)
class BinDetector:
    """Pattern function: sums over ``factor`` x ``factor`` pixels, as counts are summed by a detector."""

    factor: int

    def __call__(self, pattern: Num[Array, "det_y det_x"]) -> Num[Array, "bin_y bin_x"]:
        """Return the summed pattern in floating point."""
        factor = self.factor
        height, width = (n // factor * factor for n in pattern.shape)
        whole = pattern[:height, :width].astype(float)
        # Strided slices: XLA vectorizes their sum, other than one over axes as short as these.
        rows = sum((whole[i::factor] for i in range(1, factor)), whole[::factor])
        return sum((rows[:, i::factor] for i in range(1, factor)), rows[:, ::factor])


def missing_positions(source: PatternSource) -> np.ndarray:
    """Positions of which a source holds no pattern, ``(scan_y, scan_x)``."""
    missing = getattr(source, "missing", None)
    return np.zeros(source.shape[:2], bool) if missing is None else missing


def check_shape(shape: tuple[int, ...], what: str) -> None:
    """Raise InputError unless ``shape`` is a non-empty 4D scan."""
    if len(shape) != 4:
        raise InputError(
            f"{what} has {len(shape)} axes {shape}; expected (scan_y, scan_x, det_y, det_x); "
            "for a 3D stack of patterns give scan_shape"
        )
    if 0 in shape:
        raise InputError(f"{what} is empty: shape {shape}")


def check_dataset(given: Any, what: str) -> None:
    """Raise InputError, with what to do, unless what was given is a dataset.

    Args:
        given: What stands where a dataset should.
        what: The function it was given to.

    Example:
        >>> check_dataset("scan.h5", "measure_strain")
        Traceback (most recent call last):
        ...
        jax4dstem.errors.InputError: measure_strain takes a Dataset, not a path: open_dataset('scan.h5') gives one
    """
    if isinstance(given, Dataset):
        return
    kind = type(given).__name__
    patterns = getattr(given, "patterns", None)
    if isinstance(given, str | PathLike):
        text = f"not a path: open_dataset({str(given)!r}) gives one"
    elif np.ndim(given) == 4:
        text = f"not {kind}: Dataset.from_array(array) makes one"
    elif isinstance(patterns, Dataset):
        text = f"not {kind}: its attribute patterns is one"
    elif callable(given):
        text = "not a function: that comes first, as in map_patterns(fn, scan)"
    else:
        text = f"not {kind}"
    raise InputError(f"{what} takes a Dataset, {text}")


def check_centers(center: np.ndarray, scan_shape: tuple[int, int], what: str) -> None:
    """Raise InputError unless there is a center (y, x) for every position.

    Args:
        center: ``(scan_y, scan_x, 2)``.
        scan_shape: ``(scan_y, scan_x)``.
        what: The function it was given to.

    Example:
        >>> check_centers(np.zeros((3, 4, 2)), (3, 4), "measure_strain")
    """
    shape = (*scan_shape, 2)
    if np.shape(center) == shape:
        return
    advice = "align_scan(scan, survey).center is that"
    if np.shape(center) == (2,):
        advice += f"; np.broadcast_to(center, {shape}) where the beam stands still"
    raise InputError(
        f"{what} needs the direct beam's center at every position, {shape}, not {np.shape(center)}: {advice}"
    )


def check_per_position(per_position: Sequence[Any], scan_shape: tuple[int, int]) -> None:
    """Raise InputError unless every leaf starts with the scan axes."""
    for leaf in jax.tree.leaves(tuple(per_position)):
        if isinstance(leaf, Dataset):
            raise InputError(
                "a per-position argument is a map of the scan in memory, not a Dataset"
            )
        if np.shape(leaf)[:2] != scan_shape:
            raise InputError(
                f"a per-position argument has shape {np.shape(leaf)}; "
                f"it must start with the scan shape {scan_shape}"
            )
