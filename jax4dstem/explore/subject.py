"""What is explored: a scan, its results, or both, and what a page may ask of them."""

import functools
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem._version import __version__
from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.explore.lattices import lattices_of
from jax4dstem.explore.maps import ScanMap, maps_of
from jax4dstem.explore.parts import (
    KeptChunks,
    Preview,
    band_rows,
    preview_step,
)
from jax4dstem.explore.wire import Answer
from jax4dstem.io import open_dataset
from jax4dstem.patterns import center_of_mass, count_offset, ewpc, unfold_cepstrum, virtual_image
from jax4dstem.patterns.cepstrum import GAUSSIAN_SHARE, covered_radius
from jax4dstem.pipeline.input import input_of
from jax4dstem.pipeline.recipe import parse_recipe
from jax4dstem.pipeline.results import RESULTS, Results, open_results
from jax4dstem.reducers import Mean
from jax4dstem.strain import StrainMeasurement, expected_and_residual
from jax4dstem.stream import map_patterns, reduce_patterns

READING = threading.Lock()  # a preview is read once, whoever asks first


@dataclass(frozen=True)
class Subject:
    """A scan, its results, or both; `answer` gives a page what it asks for, and nothing else.

    Attributes:
        scan: The patterns; None where they are not at hand.
        results: The answers; None for a bare scan.
        name: What the page is titled by.
        out: Where the results are; "" where they are in memory.
        opening: Python that opens the scan as ``scan``; "" where a text cannot.
        note: Why there are no patterns; "" where there are.

    Example:
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> subject = Subject.of(scan)
        >>> subject.answer("pattern", {"y": 2, "x": 3}).array.shape
        (16, 16)
        >>> subject.answer("meta", {}).about["scan"]
        [3, 4]
    """

    scan: Dataset | None
    results: Results | None = None
    name: str = "scan"
    out: str = ""
    opening: str = ""
    note: str = ""

    @classmethod
    def of(cls, explored: "Results | Dataset", scan: Dataset | None = None) -> "Subject":
        """Of results, whose scan is opened again unless it is given, or of a scan.

        Args:
            explored: What is to be seen.
            scan: Of the results, where it is at hand.

        Raises:
            InputError: It is neither.
        """
        if isinstance(explored, Dataset):
            return cls(
                explored, None, Path(explored.path or "scan").name, opening=_opening(explored)
            )
        if not isinstance(explored, Results):
            raise InputError(
                f"explore takes Results or a Dataset, not {type(explored).__name__}: "
                "open them with open_results or open_dataset"
            )
        note, reading = "", {}
        if scan is None:
            try:
                scan, reading = input_of(explored), parse_recipe(explored.about["recipe"]).reading()
            except InputError as error:
                note = f"no patterns: {error}"
        name = Path(str(explored.about.get("input_path", "results"))).name
        return cls(scan, explored, name, opening=_opening(scan, reading), note=note)

    @classmethod
    def at(cls, path: str | Path, reading: dict[str, Any] | None = None) -> "Subject":
        """Of a results directory or its results.h5, or of a file of patterns.

        Args:
            path: Where it is.
            reading: What `open_dataset` takes beside the path; of the file of patterns only.

        Raises:
            InputError: There is neither.
        """
        path = Path(path)
        if path.name == RESULTS or (path / RESULTS).exists():
            return replace(cls.of(open_results(path)), out=str(path))
        scan = open_dataset(path, **(reading or {}))
        return cls(scan, None, path.name, opening=_opening(scan, reading))

    def answer(self, name: str, args: dict[str, Any]) -> Answer:
        """What a page asks for.

        Args:
            name: One of `QUESTIONS`.
            args: Its arguments; positions are whole numbers, masks arrays.

        Returns:
            Numbers, texts, and an array where there is one.

        Raises:
            InputError: There is no such question, or its arguments do not fit.
        """
        question = QUESTIONS.get(name)
        if question is None:
            raise InputError(f"there is no question {name!r}; there are {', '.join(QUESTIONS)}")
        try:
            inspect.signature(question).bind(self, **args)
        except TypeError as error:
            raise InputError(f"{name} does not take {sorted(args)}: {error}") from error
        return question(self, **args)

    @property
    def scan_shape(self) -> tuple[int, int]:
        """``(scan_y, scan_x)``."""
        if self.scan is not None:
            return self.scan.scan_shape
        height, width = np.asarray(self._about("scan_shape")).tolist()
        return height, width

    @property
    def calibration(self) -> Calibration:
        """Of the results, or else of the scan."""
        if self.results is not None:
            return self.results.calibration
        return self.scan.calibration if self.scan is not None else Calibration()

    @functools.cached_property
    def maps(self) -> dict[str, ScanMap]:
        """All maps of the results, by name."""
        if self.results is None:
            return {}
        return maps_of(
            self.results.fields(), self.scan_shape, self.results.left_out(self.scan_shape)
        )

    @functools.cached_property
    def lattices(self) -> tuple[list[dict[str, Any]], np.ndarray] | None:
        """Lattices of the strain, and where each lies in every pattern; None without strain."""
        return None if self._strain is None else lattices_of(self._strain)

    @property
    def embedding(self) -> tuple[str, np.ndarray] | None:
        """Points of the positions, ``(scan_y, scan_x, 2)``, and where they are in the results: UMAP, else principal components."""
        results = self.results
        if (
            results is not None
            and results.embedding is not None
            and results.embedding.umap is not None
        ):
            return "embedding.umap", np.asarray(results.embedding.umap)[..., :2]
        if results is not None and results.scores is not None:
            return "scores.scores", np.asarray(results.scores.scores)[..., :2]
        return None

    @property
    def preview(self) -> Preview:
        """The scan's positions on a coarse grid, in memory; read once."""
        with READING:
            return self._preview

    @functools.cached_property
    def _preview(self) -> Preview:
        return Preview.of(self._patterns)

    @functools.cached_property
    def at_hand(self) -> Dataset:
        """The scan for single patterns: in memory where the preview is all of it, else with the chunks last read."""
        scan = self._patterns
        if preview_step(scan) == 1:
            return self.preview.scan
        return replace(scan, source=KeptChunks(scan.source))

    @functools.cached_property
    def beam(self) -> tuple[float, float, float]:
        """Center y, x and radius of the mean direct beam in px: of the results, or roughly of the preview's mean."""
        beam = self.results.beam if self.results is not None else None
        if beam is not None:
            y, x = np.nanmean(beam.center.reshape(-1, 2), axis=0).tolist()
            return y, x, float(beam.radius)
        mean = reduce_patterns(Mean(), self.preview.scan)
        y, x = np.asarray(center_of_mass(jnp.nan_to_num(mean))).tolist()
        height, width = mean.shape
        if not np.isfinite(y):  # no counts
            y, x = height / 2, width / 2
        return y, x, max(2.0, min(height, width) / 16)

    def warm_up(self) -> None:
        """Compile, with positions in the middle, what is asked for first, so that nobody waits for it."""
        if self.scan is None:
            return
        y, x = (n // 2 for n in self.scan_shape)
        region = np.zeros(self.scan_shape, np.uint8)
        region[y, x] = 1
        mask = np.zeros(self.scan.pattern_shape, np.float32)
        self.virtual(mask)
        if self.preview.step > 1:
            self.virtual(mask, [0, band_rows(self.scan)])
        self.mean(region)
        self.cepstrum(y, x)
        if self._electrons is not None:
            self.residual(*self._fitted_position())

    def meta(self) -> Answer:
        """What there is to see."""
        step, step_unit = self.calibration.scan_units
        pixel, pixel_unit = self.calibration.reciprocal_units
        about: dict[str, Any] = {
            "name": self.name,
            "version": __version__,
            "scan": list(self.scan_shape),
            "step": {"size": step, "unit": step_unit},
            "pixel": {"size": pixel, "unit": pixel_unit},
            "maps": [
                {"name": m.name, "units": m.units, "about": m.about, "kind": m.kind}
                for m in self.maps.values()
            ],
            "lattices": None if self.lattices is None else self.lattices[0],
            "embedding": self.embedding and self.embedding[0],
            "residual": self._electrons is not None,
            "cepstrum": self.scan is not None,
            "opening": self.opening,
            "out": repr(self.out) if self.out else "",
            "notes": [self.note] if self.note else [],
            "patterns": None,
        }
        if self.scan is not None:
            y, x, radius = self.beam
            about["patterns"] = {
                "shape": list(self.scan.pattern_shape),
                "units": "counts",
                "step": preview_step(self.scan),
                "band": band_rows(self.scan),
                "center": [y, x],
                "radius": radius,
                "per": 1,
                "bin": 1,
            }
        return Answer(about)

    def map(self, name: str) -> Answer:
        """A map of the results."""
        if name not in self.maps:
            raise InputError(f"the results have no map {name!r}")
        return Answer({}, self.maps[name].data)

    def points(self) -> Answer:
        """The embedding."""
        if self.embedding is None:
            raise InputError("the results have no embedding")
        return Answer({}, self.embedding[1])

    def places(self) -> Answer:
        """Where the lattices lie in every pattern; see `lattices_of`."""
        if self.lattices is None:
            raise InputError("the results have no strain")
        return Answer({}, self.lattices[1])

    def pattern(self, y: Any, x: Any) -> Answer:
        """Counts of one position."""
        return Answer({}, self.at_hand[self._inside(y, x)])

    def cepstrum(self, y: Any, x: Any) -> Answer:
        """Exit-wave power cepstrum of one position, zero quefrency at ``[det_y // 2, det_x // 2]``."""
        y, x = self._inside(y, x)
        pattern = np.asarray(self.at_hand[y, x], np.float32)
        beam = self.results.beam if self.results is not None else None
        center = np.asarray(self.beam[:2] if beam is None else beam.center[y, x], np.float32)
        width = np.float32(GAUSSIAN_SHARE * covered_radius(center, pattern.shape))
        # One count.
        offset = np.float32(count_offset(pattern.shape, max(float(np.nansum(pattern)), 1.0)))
        step, unit = self.calibration.quefrency_step(pattern.shape[1])
        return Answer(
            {"step": step, "unit": unit}, np.asarray(_cepstrum(pattern, center, width, offset))
        )

    def residual(self, y: Any, x: Any) -> Answer:
        """Electrons that the fitted lattice leads one to expect, and those beyond it, ``(2, det_y, det_x)``."""
        y, x = self._inside(y, x)
        if self._electrons is None or self._strain is None:
            raise InputError("there is no fitted lattice of single patterns")
        found = expected_and_residual(self._electrons[y, x], self._strain, y, x)
        return Answer({"lattice": False}) if found is None else Answer({"lattice": True}, found)

    def virtual(self, mask: np.ndarray, rows: list[int] | None = None) -> Answer:
        """Image of a virtual detector: of the preview, or exactly of some rows of the scan."""
        mask = np.asarray(mask, np.float32)
        if mask.shape != self._patterns.pattern_shape:
            raise InputError(
                f"the detector has the shape {mask.shape}, patterns {self._patterns.pattern_shape}"
            )
        if rows is None:
            return Answer(
                {"step": self.preview.step}, map_patterns(virtual_image, self.preview.scan, mask)
            )
        start, stop = rows
        if not 0 <= start < stop <= self.scan_shape[0]:
            raise InputError(f"rows {start}:{stop} are not in the scan of {self.scan_shape[0]}")
        image = map_patterns(virtual_image, self._patterns[start:stop], mask)
        return Answer({"step": 1}, image)

    def mean(self, mask: np.ndarray) -> Answer:
        """Mean pattern of the positions of a mask, ``(scan_y, scan_x)``."""
        if mask.shape != self.scan_shape or not mask.any():
            raise InputError("the region is empty, or of another scan")
        weights = np.where(self._patterns.missing, 0.0, mask).astype(np.float32)
        scan = self._patterns.map(jnp.nan_to_num) if self._floating else self._patterns
        if self.preview.step == 1:
            whole = self.preview.scan.map(jnp.nan_to_num) if self._floating else self.preview.scan
            return Answer({}, reduce_patterns(Mean(), whole, weights=weights))
        total, count = np.zeros(scan.pattern_shape), 0.0
        for start, stop, part in self._bands(weights):
            mean = reduce_patterns(Mean(), scan[start:stop], weights=part)
            total, count = total + part.sum() * mean.astype(np.float64), count + part.sum()
        return Answer({}, total / max(count, 1.0))

    def _bands(self, weights: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
        """Bands of rows, all alike so that they are compiled once, which hold all weights, each weight once."""
        height, size = len(weights), band_rows(self._patterns)
        inside = np.flatnonzero(weights.any(axis=1))
        left, found = weights.copy(), []
        for first in range(inside[0], inside[-1] + 1, size):
            start = min(first, height - size)
            found.append((start, start + size, left[start : start + size].copy()))
            left[start : start + size] = 0.0
        return [band for band in found if band[2].any()]

    @property
    def _floating(self) -> bool:
        return self._patterns.dtype.kind == "f"

    @property
    def _patterns(self) -> Dataset:
        if self.scan is None:
            raise InputError(self.note or "there are no patterns")
        return self.scan

    @property
    def _strain(self) -> StrainMeasurement | None:
        strain = self.results.strain if self.results is not None else None
        return strain if isinstance(strain, StrainMeasurement) else None

    @functools.cached_property
    def _electrons(self) -> Dataset | None:
        """The scan as the fits took it, where these are of single patterns."""
        survey = self.results.survey if self.results is not None else None
        if self.scan is None or survey is None or self._strain is None:
            return None
        alone = parse_recipe(self._about("recipe")).strain.bin == 1
        return survey.electrons(self.at_hand) if alone else None

    def _fitted_position(self) -> tuple[int, int]:
        """A position with a lattice, or else the first."""
        fitted = (
            np.argwhere(self._strain.strain.ok) if self._strain is not None else np.empty((0, 2))
        )
        return (int(fitted[0, 0]), int(fitted[0, 1])) if len(fitted) else (0, 0)

    def _about(self, name: str) -> Any:
        return self.results.about.get(name, "") if self.results is not None else ""

    def _inside(self, y: Any, x: Any) -> tuple[int, int]:
        height, width = self.scan_shape
        if not (isinstance(y, int) and isinstance(x, int) and 0 <= y < height and 0 <= x < width):
            raise InputError(f"({y}, {x}) is no position of the {height} x {width} scan")
        return y, x


QUESTIONS: dict[str, Callable[..., Answer]] = {
    "meta": Subject.meta,
    "map": Subject.map,
    "points": Subject.points,
    "places": Subject.places,
    "pattern": Subject.pattern,
    "cepstrum": Subject.cepstrum,
    "residual": Subject.residual,
    "virtual": Subject.virtual,
    "mean": Subject.mean,
}


def _opening(scan: Dataset | None, reading: dict[str, Any] | None = None) -> str:
    """Python that opens a scan; "" where it is in memory, or where its steps are not in a file."""
    if scan is None or scan.path is None or (scan.steps and not reading):
        return ""
    usual = inspect.signature(open_dataset).parameters
    given = {n: value for n, value in (reading or {}).items() if value != usual[n].default}
    words = "".join(f", {name}={value!r}" for name, value in given.items())
    return f"open_dataset({scan.path!r}{words})"


@jax.jit
def _cepstrum(pattern: Any, center: Any, width: Any, offset: Any) -> Any:
    half = ewpc(pattern, center, width, offset)
    return unfold_cepstrum(half, pattern.shape[1])
