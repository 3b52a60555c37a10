"""Domains by the default recipe against ground truth.

    python experiments/domain_map/run.py cbed_wide2_like.mat cbed_wide2_like_truth.h5 --pixel 0.016 --step 8
    python experiments/domain_map/run.py --demo-seeds 0 1 2

The truth file holds ``label``, ``center_y`` and ``center_x`` over the scan.
"""

import argparse
import json
import tempfile
from pathlib import Path

import h5py
import numpy as np

from jax4dstem import use_all_cores
from jax4dstem.domains import domain_agreement
from jax4dstem.io.results import read_group
from jax4dstem.pipeline import analyze, analyze_dataset, load_recipe
from jax4dstem.simulate import heterojunction


def score(results, label, center):
    """Descan error after removing the mean, and agreement at every level."""
    tree, _ = read_group(results)
    error = tree["center"].data - center
    error = np.linalg.norm(error - error.mean((0, 1)), axis=-1)
    levels = {}
    for name, field in tree["labels"].items():
        plain, merged = domain_agreement(field.data, label)
        levels[name] = {
            "clusters": len(np.unique(field.data[field.data >= 0])),
            "adjusted_rand_index": round(plain, 4),
            "merged_by_majority": round(merged, 4),
        }
    return {"descan_median_error_px": round(float(np.median(error)), 4), "levels": levels}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("truth", nargs="?", type=Path)
    parser.add_argument("--pixel", type=float)
    parser.add_argument("--step", type=float)
    parser.add_argument("--demo-seeds", type=int, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    options = parser.parse_args()
    use_all_cores()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    overrides = {"embed.umap": False}  # the default clusters PCA scores; UMAP is a picture
    with tempfile.TemporaryDirectory() as folder:
        if options.data:
            given = {"input.pixel_inv_angstrom": options.pixel, "input.scan_step_nm": options.step}
            given = {key: value for key, value in given.items() if value is not None}
            recipe = load_recipe(None, {**overrides, **given})
            with h5py.File(options.truth) as truth:
                label = truth["label"][()]
                center = np.stack([truth["center_y"][()], truth["center_x"][()]], -1)
            results = analyze(options.data, Path(folder) / "data", recipe)
            found[options.data.name] = score(results, label, center)
        for seed in options.demo_seeds:
            dataset, truth = heterojunction(seed=seed)
            recipe = load_recipe(None, overrides)
            results = analyze_dataset(dataset, Path(folder) / f"demo{seed}", recipe)
            found[f"demonstration seed {seed}"] = score(results, truth.label, truth.center)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
