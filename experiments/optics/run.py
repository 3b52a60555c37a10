"""Strain behind rotated, mirrored, elliptical and rectangular optics, with their calibration: is it that of the specimen, within its bars?

    python experiments/optics/run.py            # 5 calibrations x 3 seeds, some minutes, writes result.json

A polycrystal with strains up to 2 % is drawn as the detector sees it: rows g1, g2 in scan axes times `Calibration.to_detector`.
Those of the first seed are measured without the calibration, too.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem import Dataset
from jax4dstem.coordinates import Calibration, deform, deformation, wrap_angle
from jax4dstem.simulate import polycrystal, simulate_scan
from jax4dstem.strain import COMPONENTS, StrainReference, measure_strain

HERE = Path(__file__).parent
SEEDS = (401, 402, 403)
SCAN, DETECTOR, GRAINS, RADIUS = (12, 12), (128, 128), 4, 4.0
OPTICS = {
    "rotation of 30 degrees": {"scan_rotation": np.radians(30)},
    "flip": {"scan_flip": True},
    "pixels of 0.020 x 0.025 1/Å": {"pixel_inv_angstrom": 0.025, "pixel_y_inv_angstrom": 0.020},
    "ellipse of 4 %": {"ellipse": (0.012, -0.016)},
    "all together": {
        "scan_rotation": np.radians(-70),
        "scan_flip": True,
        "pixel_inv_angstrom": 0.020,
        "pixel_y_inv_angstrom": 0.023,
        "ellipse": (-0.018, 0.009),
    },
}


def specimen(calibration: Calibration, seed: int) -> tuple[np.ndarray, np.ndarray, object]:
    """Counts as the detector sees them, the strain (e_xx, e_yy, e_xy, theta) of every position, and all else that is true."""
    _, truth = polycrystal(SCAN, DETECTOR, n_grains=GRAINS, background=0.1, seed=seed)
    strain = np.stack([getattr(truth, name) for name in COMPONENTS], -1)
    gradients = jax.vmap(deformation)(*strain.reshape(-1, 4).T)
    vectors = jax.vmap(deform, (None, 0))(jnp.asarray(truth.vectors, float), gradients)
    seen = np.asarray(vectors).reshape(*SCAN, 1, 2, 2) @ calibration.to_detector
    one = truth.parameters._replace(
        vectors=seen.astype(np.float32), intensities=truth.parameters.intensities[:, :, :1]
    )
    return simulate_scan(one, truth.optics, DETECTOR, seed=seed), strain, truth


def errors(scan: Dataset, strain: np.ndarray, truth: object) -> tuple[np.ndarray, np.ndarray]:
    """Errors of all positions with strain, and the same over their bars, ``(n, 4)``."""
    # As one reads it off a pattern.
    reference = StrainReference.vectors(*truth.vectors @ scan.calibration.to_detector)
    found = measure_strain(
        scan, truth.parameters.center, RADIUS, reference=reference, progress=None
    )
    found = found.strain
    gap = found.values - strain
    gap[..., 3] = wrap_angle(gap[..., 3], found.period)
    bars = np.sqrt(np.diagonal(found.covariance, axis1=-2, axis2=-1))
    return gap[found.ok], (gap / bars)[found.ok]


def run(given: dict, seeds: list[int]) -> dict:
    """Figures of one kind of optics over all seeds."""
    calibration = Calibration(**given)
    with_it, bars = [], []
    for seed in seeds:
        counts, strain, truth = specimen(calibration, seed)
        gap, z = errors(Dataset.from_array(counts, calibration), strain, truth)
        with_it.append(gap)
        bars.append(z)
        if seed == seeds[0]:
            without = errors(Dataset.from_array(counts), strain, truth)[0]
    gap, z = np.concatenate(with_it), np.concatenate(bars)
    return {
        "positions": len(gap) / (len(seeds) * np.prod(SCAN)),
        "rms_error": dict(zip(COMPONENTS, np.sqrt(np.mean(gap**2, axis=0)).tolist(), strict=True)),
        "rms_z": dict(zip(COMPONENTS, np.sqrt(np.mean(z**2, axis=0)).tolist(), strict=True)),
        "coverage_95": dict(zip(COMPONENTS, np.mean(abs(z) < 1.96, axis=0).tolist(), strict=True)),
        "rms_error_uncalibrated": dict(
            zip(
                COMPONENTS,
                np.sqrt(np.mean(without**2, axis=0)).tolist(),
                strict=True,
            )
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    result = {}
    for name, given in OPTICS.items():
        result[name] = run(given, options.seeds)
        print(name, json.dumps(result[name]), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
