"""Pooled against single strain, from counts on: steps, islands, wells and waves of a percent in patterns that another program draws.

    python experiments/pooling/patterns.py                        # six fields, half an hour on 2 busy cores
    python experiments/pooling/patterns.py --fields "step 25" --out one.json

64 x 64 patterns per field are drawn by the NumPy renderer of the tests, which shares nothing with the library, and measured with nothing given but the
reference lattice: learned background, disks and error bars, which `run.py` is told, are in these figures. What all positions err alike by ("offset", the median
of single patterns) is taken off both maps: a reference that is measured in the scan has it, too. Writes patterns.json.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from run import ERROR, Truth, flat, islands, step, wave, wells

from jax4dstem import Dataset, measure_strain, pool_strain
from jax4dstem.strain import COMPONENTS, StrainMap, StrainReference

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
import second_renderer  # noqa: E402

LATTICE = 20.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])  # px
SHAPE, RADIUS, DOSE = (112, 112), 4.0, 1e5
BACKGROUND, DIFFRACTED = 0.2, 0.25  # shares of the electrons, and of the rest
# Sizes in errors of a pattern: a step of 1 %, islands of 2 %, wells of 1.5 %.
FIELDS = {
    "flat": flat,
    "step 25": lambda: step(25),
    "islands 50": lambda: islands(50),
    "wells 37.5": lambda: wells(37.5),
    "wave 2.5/64": lambda: wave(2.5, 64),
    "wave 25/64": lambda: wave(25, 64),
}


def patterns(strain: np.ndarray, seed: int) -> second_renderer.Scan:
    """Hard-edged disks of one crystal with the strain of every position, on a film."""
    rng = np.random.default_rng(seed)
    center = (np.array(SHAPE) - 1) / 2 + rng.uniform(-0.5, 0.5, (*strain.shape[:2], 2))
    h, k = (grid.ravel() for grid in np.meshgrid(*2 * [np.arange(-3, 4)], indexing="ij"))
    length = np.hypot(*(np.stack([h, k], 1) @ LATTICE).T)
    near = (length > 0) & (length < min(SHAPE) / 2)
    h, k, length = h[near], k[near], length[near]
    shares = np.exp(-length / (0.3 * min(SHAPE)) + 0.3 * rng.standard_normal(len(h)))
    shares *= DIFFRACTED / shares.sum()
    y, x = np.indices(SHAPE)
    counts = np.zeros((*strain.shape[:2], *SHAPE), np.uint16)
    for where in np.ndindex(*strain.shape[:2]):
        film = np.exp(-np.hypot(y - center[where][0], x - center[where][1]) / (0.2 * min(SHAPE)))
        expected = BACKGROUND * DOSE * film / film.sum()
        nodes = np.stack([h, k], 1) @ second_renderer.deform(LATTICE, strain[where])
        spots = [(np.zeros(2), 1 - DIFFRACTED), *zip(nodes, shares, strict=True)]
        for offset, share in spots:
            window, covered = second_renderer.disk(SHAPE, center[where] + offset, RADIUS)
            expected[window] += (1 - BACKGROUND) * DOSE * share * covered / (np.pi * RADIUS**2)
        counts[where] = rng.poisson(expected)
    return second_renderer.Scan(counts, strain, center)


def measured(made: second_renderer.Scan) -> StrainMap:
    """Of single patterns, against the lattice that was drawn."""
    scan, reference = Dataset.from_array(made.counts), StrainReference.vectors(*LATTICE)
    return measure_strain(scan, made.center, RADIUS, reference=reference, progress=None).strain


def judge(truth: Truth, seed: int) -> dict[str, object]:
    """Figures of single patterns and of the pooled map, by part of the field, and the offset of both."""
    strain = ERROR * truth.strain
    single = measured(patterns(strain, seed))
    offset = np.median((single.values - strain)[single.ok], axis=0)
    errors = [errors_of(each, strain + offset) for each in (single, pool_strain(single).strain)]
    return {"offset": np.round(offset, 6).tolist()} | {
        part: figures(*(each[mask & single.ok] for each in errors)) | ok_of(single, mask)
        for part, mask in truth.parts.items()
    }


def errors_of(found: StrainMap, strain: np.ndarray) -> np.ndarray:
    """Errors of all components, and the same over their bars, ``(y, x, 4, 2)``."""
    gap = found.values - strain
    gap[..., 3] -= found.period * np.round(gap[..., 3] / found.period)
    std = np.stack([found.std(name) for name in COMPONENTS], axis=-1)
    return np.abs(np.stack([gap, gap / std], axis=-1))


def figures(single: np.ndarray, pooled: np.ndarray) -> dict[str, object]:
    """Of the positions of a part, ``(positions, 4, 2)``."""
    z = pooled[..., 1]
    return {
        "mae_single": np.round(single[..., 0].mean(axis=0), 6).tolist(),
        "error_ratio": round(float(pooled[..., 0].mean() / single[..., 0].mean()), 3),
        "coverage_single": round(float((single[..., 1] < 1.96).mean()), 3),
        "coverage": round(float((z < 1.96).mean()), 3),
        "coverage_by_component": (z < 1.96).mean(axis=0).round(3).tolist(),
        "beyond_5": round(float((z > 5).mean()), 4),
    }


def ok_of(single: StrainMap, mask: np.ndarray) -> dict[str, object]:
    return {"positions": int(mask.sum()), "ok": round(float(single.ok[mask].mean()), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", nargs="+", default=list(FIELDS), choices=list(FIELDS))
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--out", type=Path, default=HERE / "patterns.json")
    options = parser.parse_args()
    result = {}
    for name in options.fields:
        result[name] = judge(FIELDS[name](), options.seed)
        print(name, json.dumps(result[name]), flush=True)
    options.out.write_text(json.dumps({"seed": options.seed, "fields": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
