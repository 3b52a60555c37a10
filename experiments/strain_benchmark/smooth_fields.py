"""Pooling where strain varies smoothly and there are no grains: errors and coverage.

    python experiments/strain_benchmark/smooth_fields.py          # about 4 minutes; writes smooth_fields.json

Noisy strain maps of 48 x 48 positions (ramps, sines, random fields, a bump) with gradients of 1e-4 to 1e-3 per
position and the noise of one pattern's fit; mean over seeds, which are not those that pooling was tuned on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from jax4dstem.strain import COMPONENTS, StrainMap, pool_strain

HERE = Path(__file__).parent
SIZE = 48
HEXAGONAL = 28.0 * np.array([[0.0, 1.0], [-np.sqrt(0.75), 0.5]])
GRADIENTS, NOISES = (1e-4, 3e-4, 1e-3), (1.2e-3, 4e-3)
SHARE = np.array([1, 1, 0.7, 0.7])  # of the noise in e_xx, e_yy, e_xy, theta


def ramp(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.cos(angle) * x + np.sin(angle) * y


def sine(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * ramp(rng, y, x) / 32 + rng.uniform(0, 2 * np.pi))


def random_field(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    wide = rng.standard_normal((SIZE + 80, SIZE + 80))
    return ndimage.gaussian_filter(wide, 8)[40:-40, 40:-40]


def bump(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cy, cx = SIZE / 2 + rng.uniform(-4, 4, 2)
    return rng.choice([-1, 1]) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2 / (SIZE / 6) ** 2)


FIELDS = {"ramp": ramp, "sine": sine, "random": random_field, "bump": bump}


def smooth_strain(kind: str, gradient: float, rng: np.random.Generator) -> np.ndarray:
    """Four components ``(y, x, 4)`` whose largest (random field: root mean square) gradient is given."""
    y, x = np.indices((SIZE, SIZE)).astype(float)
    components = []
    for _ in COMPONENTS:
        field = FIELDS[kind](rng, y, x)
        slope = np.hypot(*np.gradient(field))
        components.append(
            field * gradient / (np.sqrt(np.mean(slope**2)) if kind == "random" else slope.max())
        )
    return np.stack(components, axis=-1)


def observed(truth: np.ndarray, noise: float, rng: np.random.Generator) -> StrainMap:
    sigma = noise * SHARE
    values = truth + sigma * rng.standard_normal(truth.shape)
    return StrainMap(
        **dict(zip(COMPONENTS, np.moveaxis(values, -1, 0), strict=True)),
        covariance=np.broadcast_to(np.diag(sigma**2), (SIZE, SIZE, 4, 4)),
        status=np.zeros((SIZE, SIZE), np.int8),
        reference=HEXAGONAL,
        reference_source="simulated",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(201, 217)))
    parser.add_argument("--out", type=Path, default=HERE / "smooth_fields.json")
    options = parser.parse_args()
    rows = []
    for kind in FIELDS:
        for gradient in GRADIENTS:
            for noise in NOISES:
                rms, coverage, pooled_patterns = [], [], []
                for seed in options.seeds:
                    rng = np.random.default_rng(seed)
                    truth = smooth_strain(kind, gradient, rng)
                    pooled = pool_strain(observed(truth, noise, rng))
                    error = pooled.strain.values - truth
                    std = np.stack([pooled.strain.std(name) for name in COMPONENTS], axis=-1)
                    rms.append(np.sqrt(np.mean((error / noise / SHARE) ** 2)))
                    coverage.append(np.mean(np.abs(error) < 1.96 * std))
                    pooled_patterns.append(np.median(pooled.n_pooled))
                row = {
                    "field": kind,
                    "gradient": gradient,
                    "noise": noise,
                    "rms_over_one_pattern": round(float(np.mean(rms)), 3),
                    "coverage_95": round(float(np.mean(coverage)), 3),
                    "patterns_pooled": round(float(np.mean(pooled_patterns)), 1),
                }
                print(row, flush=True)
                rows.append(row)
    options.out.write_text(json.dumps({"seeds": options.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
