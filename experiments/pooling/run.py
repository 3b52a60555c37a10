"""Pooled against single strain on fields with known truth: steps, islands, wells, corners, waves, grains.

    python experiments/pooling/run.py                       # seeds 11 to 15, about 5 minutes on 2 cores
    python experiments/pooling/run.py --fields flat step2   # some of them, not written

Strain of 64 x 64 positions with Gaussian errors of known, unequal covariances: what pooling sees after the fits. Writes result.json.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jax4dstem.strain import COMPONENTS, StrainMap, pool_strain

HERE = Path(__file__).parent
SIZE = 64
ERROR = 4e-4  # typical error of one pattern's e_xx
CORRELATED = np.diag([1.0, 1.1, 0.6, 0.7])
CORRELATED[0, 1] = CORRELATED[1, 0] = 0.3
Y, X = np.mgrid[:SIZE, :SIZE].astype(float)


class Truth(NamedTuple):
    """Strain ``(y, x, 4)`` in errors of one pattern, and masks of the parts that are judged."""

    strain: np.ndarray
    parts: dict[str, np.ndarray]


def _along_x(inside: np.ndarray, size: float) -> np.ndarray:
    return size * inside[..., None] * np.array([1.0, 0, 0, 0])


def flat() -> Truth:
    return Truth(np.zeros((SIZE, SIZE, 4)), {"all": np.ones((SIZE, SIZE), bool)})


def step(size: float) -> Truth:
    """A straight edge."""
    beyond = np.abs(X - SIZE / 2 + 0.5)
    parts = {"beside": beyond < 1, "next two": (beyond > 1) & (beyond < 3), "inside": beyond > 3}
    return Truth(_along_x(SIZE // 2 <= X, size), parts)


def islands(size: float) -> Truth:
    """Islands of 1, 2 x 2 and 3 x 3 positions."""
    kind, near = np.zeros((SIZE, SIZE), int), np.zeros((SIZE, SIZE), bool)
    for row, column in np.ndindex(6, 6):
        side, y, x = 1 + (row + column) % 3, 6 + 10 * row, 6 + 10 * column
        kind[y : y + side, x : x + side] = side
        near[y - 1 : y + side + 1, x - 1 : x + side + 1] = True
    parts = {f"{n} x {n}": kind == n for n in (1, 2, 3)}
    return Truth(_along_x(kind > 0, size), parts | {"beside": near & (kind == 0), "rest": ~near})


def wells(size: float) -> Truth:
    """Single columns."""
    well = X % 16 == 10
    near = np.roll(well, 1, axis=1) | np.roll(well, -1, axis=1)
    return Truth(_along_x(well, size), {"well": well, "beside": near, "rest": ~well & ~near})


def corner() -> Truth:
    """A quarter of the scan differs in all components."""
    quarter = (X < SIZE / 2) & (Y < SIZE / 2)
    left, up = np.abs(X - SIZE / 2 + 0.5), np.abs(Y - SIZE / 2 + 0.5)
    near = (left < 2) & (up < 2)
    edge = ((left < 1) & (Y < SIZE / 2)) | ((up < 1) & (X < SIZE / 2))
    parts = {"corner": near, "beside": edge & ~near, "rest": ~near & ~edge}
    return Truth(quarter[..., None] * np.array([3.0, -3.0, 2.0, 30.0]), parts)


def wave(size: float, period: float) -> Truth:
    """A smooth field, in other directions for every component."""
    ways = ((1.0, 0.3, 0.2), (-0.4, 1.0, 1.0), (0.8, -0.7, 2.0), (0.5, 0.9, 3.0))
    waves = [np.sin(2 * np.pi * (a * X + b * Y) / period + phase) for a, b, phase in ways]
    return Truth(size * np.stack(waves, axis=-1), {"all": np.ones((SIZE, SIZE), bool)})


def grains() -> Truth:
    """Twelve grains: strain of some %, rotation of some degrees."""
    random = np.random.default_rng(105)
    y, x = random.uniform(0, SIZE, (2, 12))
    grain = np.hypot(Y[..., None] - y, X[..., None] - x).argmin(axis=-1)
    of_grain = np.hstack([random.normal(0, 25, (12, 3)), random.uniform(-500, 500, (12, 1))])
    shifts = ((1, 0), (-1, 0), (1, 1), (-1, 1))
    edge = np.any([np.roll(grain, by, axis) != grain for by, axis in shifts], axis=0)
    return Truth(of_grain[grain], {"beside": edge, "inside": ~edge})


FIELDS: dict[str, Callable[[], Truth]] = {
    "flat": flat,
    **{f"step {n}": lambda n=n: step(n) for n in (2, 3, 5, 10, 20)},
    **{f"islands {n}": lambda n=n: islands(n) for n in (4, 6, 10, 30)},
    **{f"wells {n}": lambda n=n: wells(n) for n in (4, 6, 10, 30)},
    "corner": corner,
    **{
        f"wave {size}/{period}": lambda size=size, period=period: wave(size, period)
        for size, period in (
            (0.5, 64),
            (1, 64),
            (2.5, 64),
            (5, 32),
            (12.5, 32),
            (12.5, 16),
            (25, 16),
            (125, 16),
        )
    },
    "grains": grains,
}


def measured(truth: np.ndarray, random: np.random.Generator, hole: np.ndarray) -> StrainMap:
    """Single patterns: the errors differ by a quarter between positions; none in the hole."""
    level = ERROR * np.exp(0.25 * random.normal(size=hole.shape))
    noise = random.normal(size=truth.shape) @ np.linalg.cholesky(CORRELATED).T
    covariance = level[..., None, None] ** 2 * CORRELATED
    values = np.where(hole[..., None], np.nan, ERROR * truth + level[..., None] * noise)
    covariance = np.where(hole[..., None, None], np.nan, covariance)
    return StrainMap(*np.moveaxis(values, -1, 0), covariance, hole * 1, 20 * np.eye(2), "given")


def judge(truth: Truth, seeds: list[int]) -> dict[str, dict[str, object]]:
    """Error and coverage by part of the field, all seeds together; vacuum in one corner of odd seeds."""
    rows: dict[str, list[np.ndarray]] = {part: [] for part in truth.parts}
    for seed in seeds:
        hole = (np.hypot(Y - 4, X - 60) < 12) & (seed % 2 == 1)
        single = measured(truth.strain, np.random.default_rng(seed), hole)
        pooled = pool_strain(single)
        std = np.stack([pooled.strain.std(name) for name in COMPONENTS], axis=-1)
        errors = [np.abs(each.values - ERROR * truth.strain) for each in (single, pooled.strain)]
        table = np.stack([*errors, errors[1] / std], axis=-1)
        apart = np.broadcast_to(pooled.reach[..., None, None] == 0, (*table.shape[:3], 1))
        table = np.concatenate([table, apart], axis=-1)
        for part, mask in truth.parts.items():
            rows[part].append(table[mask & ~hole])
    return {part: _figures(np.concatenate(found)) for part, found in rows.items()}


def _figures(table: np.ndarray) -> dict[str, object]:
    single, pooled, z, own = np.moveaxis(table, -1, 0)
    return {
        "error_ratio": round(float(pooled.mean() / single.mean()), 3),
        "coverage": round(float((z < 1.96).mean()), 3),
        "coverage_by_component": (z < 1.96).mean(axis=0).round(3).tolist(),
        "beyond_5": round(float((z > 5).mean()), 4),
        "not_pooled": round(float(own.mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", nargs="+", default=list(FIELDS), choices=list(FIELDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    options = parser.parse_args()
    result = {}
    for name in options.fields:
        result[name] = judge(FIELDS[name](), options.seeds)
        for part, row in result[name].items():
            print(f"{name:14s} {part:9s}", *(f"{key} {value}" for key, value in row.items()))
    if options.fields == list(FIELDS):
        table = {"seeds": options.seeds, "fields": result}
        (HERE / "result.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
