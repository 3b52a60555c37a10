"""Patterns to look at, chosen by what strain makes of them: typical, best, worst, at a boundary, without strain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.fields import Result, entry
from jax4dstem.strain.maps import COMPONENTS
from jax4dstem.strain.measure import StrainMeasurement
from jax4dstem.strain.residual import expected_and_residual


@dataclass(frozen=True)
class StrainExamples(Result):
    """Patterns, the lattices fitted to them, and what these lead one to expect, one row per example.

    Attributes:
        kind: What each is an example of: ``typical``, ``best``, ``worst``, ``boundary``, ``two crystals``, ``without strain``; ``(n,)``.
        position: Row and column of the scan, ``(n, 2)``.
        pattern: Electrons, ``(n, det_y, det_x)``.
        expected: Electrons by the fitted lattice, the same shape; NaN without one, and for pixels that say nothing.
        center: Fitted direct beam in px, ``(n, 2)``.
        vectors: Fitted g1, g2 as rows (y, x) in px of the detector, ``(n, 2, 2)``.
        disks: Fitted reflections in px, ``(n, reflections, 2)``; NaN where a lattice has fewer.
        radius: Of the disks in px, ``(n,)``.
        second_disks: Fitted reflections of a second crystal, ``(n, reflections, 2)``, NaN where there is none; None where no
            position of the scan has one.
    """

    kind: np.ndarray = entry(
        "example", "", "what each is an example of", path="strain/examples/kind"
    )
    position: np.ndarray = entry(
        "example yx", "", "row and column of the scan", path="strain/examples/position"
    )
    pattern: np.ndarray = entry(
        "example det_y det_x", "electrons", "the pattern", path="strain/examples/pattern"
    )
    expected: np.ndarray = entry(
        "example det_y det_x",
        "electrons",
        "what the fitted lattice leads one to expect",
        path="strain/examples/expected",
    )
    center: np.ndarray = entry(
        "example yx", "px", "fitted direct beam (y, x)", path="strain/examples/center"
    )
    vectors: np.ndarray = entry(
        "example vector yx",
        "px",
        "fitted g1, g2 (y, x) on the detector",
        path="strain/examples/vectors",
    )
    disks: np.ndarray = entry(
        "example reflection yx", "px", "fitted reflections (y, x)", path="strain/examples/disks"
    )
    radius: np.ndarray = entry("example", "px", "of the disks", path="strain/examples/radius")
    second_disks: np.ndarray | None = entry(
        "example second_reflection yx",
        "px",
        "fitted reflections of a second crystal (y, x)",
        path="strain/examples/second_disks",
        default=None,
    )


class _Example(NamedTuple):
    pattern: np.ndarray
    expected: np.ndarray
    center: np.ndarray
    vectors: np.ndarray
    disks: np.ndarray
    radius: float


def strain_examples(
    electrons: Dataset, strain: StrainMeasurement, mixed: np.ndarray | None = None
) -> StrainExamples:
    """Choose patterns by how well their fits went, and compare them with what the fits expect.

    Typical is the pattern whose chi-squared per pixel and error bar have the most ordinary ranks; best and worst are those
    of the smallest and largest chi-squared; the one at a boundary is the most mixed; that of two crystals has as much of the
    second as is ordinary, which the expected pattern does not contain; the one without strain is the brightest.

    Args:
        electrons: The scan as the fits took it, its steps the same for all positions.
        strain: Of every position.
        mixed: How much of every position is of another domain, or how unsure its domain is, ``(scan_y, scan_x)``; None takes
            where strain differs most from that of a neighbor.

    Returns:
        The examples; none of what there is not.

    Example:
        >>> from jax4dstem.simulate import polycrystal
        >>> from jax4dstem.strain import measure_strain
        >>> scan, truth = polycrystal((12, 12), (128, 128), background=0.3, n_grains=2, seed=5)
        >>> found = strain_examples(scan, measure_strain(scan, truth.parameters.center, 4.2))
        >>> found.kind.tolist()[:4], found.pattern.shape[1:]
        (['typical', 'best', 'worst', 'boundary'], (128, 128))
    """
    chosen = _chosen(strain, _unlike_neighbors(strain) if mixed is None else mixed)
    found = [_example(electrons, strain, *position) for position in chosen.values()]
    second = [_second_disks(strain, *position) for position in chosen.values()]
    shape = electrons.pattern_shape
    return StrainExamples(
        np.array(list(chosen), dtype=str),
        np.array(list(chosen.values()), dtype=int).reshape(-1, 2),
        _stacked([each.pattern for each in found], shape),
        _stacked([each.expected for each in found], shape),
        _stacked([each.center for each in found], (2,)),
        _stacked([each.vectors for each in found], (2, 2)),
        _padded([each.disks for each in found]),
        np.array([each.radius for each in found]),
        _padded(second) if any(len(each) for each in second) else None,
    )


def _chosen(strain: StrainMeasurement, mixed: np.ndarray) -> dict[str, tuple[int, int]]:
    """Positions by what they are examples of."""
    ok, fits = strain.strain.ok, strain.lattice
    found = {}
    if ok.any():
        chi, error = (np.where(ok, v, np.nan) for v in (fits.dispersion, strain.strain.std("e_xx")))
        ordinary = _from_middle(chi) + _from_middle(error)
        found = {
            "typical": _place(-ordinary, ok),
            "best": _place(-chi, ok),
            "worst": _place(chi, ok),
        }
        if np.nanmax(np.where(ok, mixed, np.nan)) > 0:
            found["boundary"] = _place(mixed, ok)
    if strain.second is not None and strain.second.there.any():
        there, amount = strain.second.there, strain.second.amount
        found["two crystals"] = _place(-_from_middle(np.where(there, amount, np.nan)), there)
    without = ~ok
    if without.any():
        found["without strain"] = _place(fits.score, without)
    return found


def _from_middle(values: np.ndarray) -> np.ndarray:
    """How far the rank of every value is from the middle one's."""
    known = np.isfinite(values)
    rank = np.full(values.shape, np.nan)
    rank[known] = np.argsort(np.argsort(values[known]))
    return np.abs(rank - np.nanmedian(rank))


def _place(score: np.ndarray, among: np.ndarray) -> tuple[int, int]:
    """The position with the highest score."""
    best = np.argmax(np.where(among & np.isfinite(score), score, -np.inf))
    y, x = np.unravel_index(best, score.shape)
    return int(y), int(x)


def _unlike_neighbors(strain: StrainMeasurement) -> np.ndarray:
    """Largest difference of strain to a neighbor, in error bars."""
    unlike = np.zeros(strain.strain.status.shape)
    for name in COMPONENTS:
        values, errors = getattr(strain.strain, name), strain.strain.std(name)
        for axis in (0, 1):
            if values.shape[axis] < 2:
                continue
            gap = np.abs(np.diff(values, axis=axis))
            ahead, behind = (
                np.take(errors, range(start, start + gap.shape[axis]), axis) for start in (0, 1)
            )
            ratio = np.nan_to_num(gap / np.hypot(ahead, behind))
            first = (slice(None),) * axis + (slice(0, -1),)
            unlike[first] = np.maximum(unlike[first], ratio)
    return unlike


def _example(electrons: Dataset, strain: StrainMeasurement, y: int, x: int) -> _Example:
    pattern = np.asarray(electrons[y, x], np.float32)
    compared = expected_and_residual(pattern, strain, y, x)
    expected = np.full_like(pattern, np.nan) if compared is None else compared[0]
    for part in strain.parts():
        if part.strain.ok[y, x]:
            center = np.asarray(part.lattice.center[y, x], float)
            vectors = part.lattices_on_detector[y, x]
            disks = center + np.asarray(part.model.indices) @ vectors
            return _Example(pattern, expected, center, vectors, disks, float(part.model.radius))
    nowhere = np.full(2, np.nan)
    return _Example(pattern, expected, nowhere, np.full((2, 2), np.nan), np.empty((0, 2)), np.nan)


def _second_disks(strain: StrainMeasurement, y: int, x: int) -> np.ndarray:
    """Reflections of the second crystal at a position; none where there is none."""
    second = strain.second
    if second is None or not second.there[y, x]:
        return np.empty((0, 2))
    model = strain.parts()[second.lattice_id[y, x]].model
    lattice, to_detector = (np.asarray(part, float) for part in (model.lattice, model.to_detector))
    indices = np.asarray(model.indices)
    indices = indices[indices.any(axis=1)]  # the direct beam is the first one's
    return strain.lattice.center[y, x] + indices @ lattice @ second.distortion[y, x] @ to_detector


def _padded(disks: Sequence[np.ndarray]) -> np.ndarray:
    """Of different numbers, those that are missing NaN."""
    most = max((len(each) for each in disks), default=0)
    padded = np.full((len(disks), most, 2), np.nan)
    for row, each in zip(padded, disks, strict=True):
        row[: len(each)] = each
    return padded


def _stacked(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(arrays) if len(arrays) else np.empty((0, *shape))
