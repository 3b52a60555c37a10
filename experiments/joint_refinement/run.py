"""Strain, and a 2 % ellipse of the detector, refined together on a polycrystal: are both within their error bars?

    python experiments/joint_refinement/run.py            # 5 seeds, a few minutes, writes result.json

Grains of random rotation; every second one is unstrained and fixes the gauge, the others have strains up to 2 %. The shape of
the reference lattice is refined too, from a start that is 0.5 % wrong.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm

from jax4dstem import Dataset
from jax4dstem.coordinates import deform, deformation
from jax4dstem.simulate import polycrystal, simulate_scan
from jax4dstem.strain import StrainReference, measure_strain, refine_strain

HERE = Path(__file__).parent
SEEDS = (301, 302, 303, 304, 305)
SCAN, DETECTOR, GRAINS = (20, 20), (128, 128), 16
ELLIPSE = (0.0108, -0.0168)  # 2 % together
WRONG = np.array([[1.005, 0.0], [0.0, 0.995]])  # of the lattice that the measurement starts from
STRAINS = ("e_xx", "e_yy", "e_xy")


def specimen(seed: int) -> tuple[Dataset, dict, object]:
    """Counts through an elliptic lens; true strains, and which positions are unstrained."""
    _, truth = polycrystal(SCAN, DETECTOR, n_grains=GRAINS, background=0.1, seed=seed)
    a, b = ELLIPSE
    ellipse = np.asarray(expm(jnp.array([[-a, b], [b, a]])))
    strained = truth.grain % 2 == 1
    strain = {name: np.where(strained, getattr(truth, name), 0.0) for name in STRAINS}
    gradients = jax.vmap(deformation)(*(jnp.ravel(v) for v in (*strain.values(), truth.theta)))
    deformed = jax.vmap(deform, (None, 0))(jnp.asarray(truth.vectors, float), gradients)
    vectors = np.array(truth.parameters.vectors[:, :, :1])
    vectors[:, :, 0] = np.asarray(deformed).reshape(*SCAN, 2, 2) @ ellipse
    one = truth.parameters._replace(
        vectors=vectors, intensities=truth.parameters.intensities[:, :, :1]
    )
    counts = simulate_scan(one, truth.optics, DETECTOR, seed=seed)
    return Dataset.from_array(counts), {**strain, "unstrained": ~strained}, truth


def run(seed: int) -> dict:
    scan, strain, truth = specimen(seed)
    start = StrainReference.vectors(*(truth.vectors @ WRONG).tolist())
    measured = measure_strain(scan, truth.parameters.center, 4.0, reference=start)
    found = refine_strain(scan, measured, unstrained=strain["unstrained"])
    ok = found.strain.ok
    inside = {}
    for name in STRAINS:
        error = (getattr(found.strain, name) - strain[name])[ok]
        inside[name] = (np.abs(error) < 1.96 * found.strain.std(name)[ok]).tolist()
    shared = {
        name: [found.value(name), found.std(name), true]
        for name, true in zip(("ellipse_axes", "ellipse_diagonals"), ELLIPSE, strict=True)
    }
    radius = float(found.model.radius)
    return {
        "seed": seed,
        "positions": int(ok.sum()),
        "shared": shared,
        "radius": [radius, radius * found.std("log_radius"), float(truth.optics.radius)],
        "coverage_95": {name: float(np.mean(hits)) for name, hits in inside.items()},
        "rms_error": {
            name: float(np.sqrt(np.mean((getattr(found.strain, name) - strain[name])[ok] ** 2)))
            for name in STRAINS
        },
        "rms_before": {
            name: float(np.sqrt(np.mean((getattr(measured.strain, name) - strain[name])[ok] ** 2)))
            for name in STRAINS
        },
        "last_step": found.step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        runs.append(run(seed))
        print(json.dumps(runs[-1]), flush=True)
    weights = [one["positions"] for one in runs]
    pooled = {
        name: float(np.average([one["coverage_95"][name] for one in runs], weights=weights))
        for name in STRAINS
    }
    scores = [(value - true) / std for one in runs for value, std, true in one["shared"].values()]
    result = {
        "coverage_95": pooled,
        "coverage_95_all": float(np.mean(list(pooled.values()))),
        "ellipse_over_error_bar": scores,
        "runs": runs,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
