"""Other symmetries and detectors with the same constants: square and rectangular lattices, 128 x 128 and 130 x 110 px.

    python experiments/ccstae_noise_table/symmetries.py        # writes symmetries.json

24 x 24 positions, four grains of any rotation and up to 1.5 % strain, 20 % background; once with the reference lattice
given (which gives no rotation away), once with nothing given.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from run import beam_centers

from jax4dstem import Dataset, use_all_cores
from jax4dstem.coordinates import deform, deformation, radius_from
from jax4dstem.simulate import bragg_disks, patch_side
from jax4dstem.strain import COMPONENTS, StrainReference, measure_strain, strain_by_bases

HERE = Path(__file__).parent
SIZE, DOSE, BACKGROUND, RADIUS, EDGE = 24, 1e5, 0.2, 3.5, 0.3
LATTICES = {
    "4-fold": (np.array([[0.0, 21.0], [21.0, 0.0]]), 4),
    "2-fold": (np.array([[0.0, 18.0], [24.0, 0.0]]), 2),
    "2-fold, oblique": (np.array([[0.0, 19.0], [23.0, 6.0]]), 2),
}


def scan(shape: tuple[int, int], vectors: np.ndarray, seed: int) -> tuple[Dataset, np.ndarray]:
    """Counts, and the true strain ``(y, x, 4)``."""
    rng = np.random.default_rng(seed)
    grains = np.c_[rng.uniform(-0.015, 0.015, (4, 3)), rng.uniform(0, 2 * np.pi, 4)]
    y, x = np.indices((SIZE, SIZE))
    number = 2 * (y >= SIZE // 2) + (x >= SIZE // 2)
    indices = np.stack(np.mgrid[-4:5, -4:5], axis=-1).reshape(-1, 2)
    length = np.linalg.norm(indices @ vectors, axis=1)
    kept = length < 0.6 * min(shape)
    indices, length = indices[kept], length[kept]
    # Friedel pairs and equivalent reflections are alike, others differ: the lattice alone tells the rotation.
    height = 2e-3 * np.exp(-length / 30)
    center = np.array(shape) / 2 - 0.5 + np.array([1.3, -0.8])

    @jax.jit
    def mean(strain):
        relative = jnp.where(length > 0, height, 0.0)
        intensities = jnp.where(length > 0, relative, 1 - relative.sum())
        place = center + indices @ deform(jnp.asarray(vectors, float), deformation(*strain))
        disks = bragg_disks(shape, place, intensities, RADIUS, EDGE, patch_side(RADIUS, EDGE))
        tail = 1 / (1 + (radius_from(jnp.asarray(center, float), shape) / min(shape) / 0.01) ** 2)
        return (1 - BACKGROUND) * disks + BACKGROUND * tail / tail.sum()

    means = np.stack([np.asarray(mean(strain)) for strain in grains])
    counts = rng.poisson(DOSE * np.maximum(means, 0)[number]).astype(np.uint16)
    return Dataset.from_array(counts), grains[number]


def errors(values: np.ndarray, truth: np.ndarray, symmetry: int) -> np.ndarray:
    gap = values - truth
    period = 2 * np.pi / symmetry
    gap[..., 3] -= period * np.round(gap[..., 3] / period)
    return gap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=301)
    parser.add_argument("--out", type=Path, default=HERE / "symmetries.json")
    options = parser.parse_args()
    use_all_cores()
    rows = []
    for shape in ((128, 128), (130, 110)):
        for name, (vectors, symmetry) in LATTICES.items():
            dataset, truth = scan(shape, vectors, options.seed)
            center, radius = beam_centers(dataset, 30.0)
            given = measure_strain(
                dataset, center, radius, reference=StrainReference.vectors(*vectors)
            ).strain
            found = strain_by_bases(given)
            nothing = measure_strain(dataset, center, radius).strain
            gap = errors(given.values, truth, symmetry)
            row = {
                "detector": shape,
                "lattice": name,
                "rejected": float(1 - given.ok.mean()),
                "wrong_rotation": float(np.mean(np.abs(gap[..., 3]) > np.radians(2))),
                "lattice_mae": np.nanmean(np.abs(gap), axis=(0, 1)).round(6).tolist(),
                "bases_mae": np.nanmean(np.abs(errors(found.strain.values, truth, symmetry)), axis=(0, 1)).round(6).tolist(),
                "bases": int(np.count_nonzero(np.bincount(found.base[found.base >= 0]) > 20)),
                "cold_start": {
                    "rejected": float(1 - nothing.ok.mean()),
                    "vectors": nothing.reference.round(2).tolist(),
                    "lengths": np.sort(np.linalg.norm(nothing.reference, axis=1)).round(2).tolist(),
                    "spread_inside_grains": [
                        round(float(np.nanmedian([np.nanstd(getattr(nothing, c)[truth[..., 3] == t]) for t in np.unique(truth[..., 3])])), 6)
                        for c in COMPONENTS[:3]
                    ],
                },
            }  # fmt: skip
            print(row, flush=True)
            rows.append(row)
    options.out.write_text(json.dumps({"seed": options.seed, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
