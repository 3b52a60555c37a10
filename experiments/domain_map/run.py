"""Domains by the default recipe against ground truth.

    python experiments/domain_map/run.py cbed_wide2_like.mat cbed_wide2_like_truth.h5 --pixel 0.016 --step 8
    python experiments/domain_map/run.py --demo-seeds 0 1 2

The truth file holds ``label``, ``center_y`` and ``center_x`` over the scan.
"""

import argparse
import json
from pathlib import Path

import h5py
import numpy as np

from jax4dstem import open_dataset, use_all_cores
from jax4dstem.domains import domain_agreement
from jax4dstem.pipeline import DOMAIN_STAGES, analyze_in_memory, load_recipe
from jax4dstem.simulate import heterojunction


def score(scan, label, center):
    """Descan error after removing the mean, and agreement of domains and levels, of the default recipe."""
    # The default clusters PCA scores; UMAP is a picture.
    found = analyze_in_memory(scan, load_recipe(None, {"embed.umap": False}), DOMAIN_STAGES)
    error = found.beam.center - center
    error = np.linalg.norm(error - error.mean((0, 1)), axis=-1)
    levels, domains = {}, found.domain_map
    for name, labels in {"domains": domains.labels, **found.domains.labels}.items():
        plain, merged = domain_agreement(labels, label)
        levels[name] = {
            "clusters": len(np.unique(labels[labels >= 0])),
            "adjusted_rand_index": round(plain, 4),
            "merged_by_majority": round(merged, 4),
        }
    tried = zip(domains.kinds.tolist(), domains.number.tolist(), strict=True)
    return {
        "descan_median_error_px": round(float(np.median(error)), 4),
        "told_by": domains.kind,
        "domains_by_kind": dict(tried),
        "levels": levels,
    }


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
    if options.data:
        scan = open_dataset(
            options.data, pixel_inv_angstrom=options.pixel, scan_step_nm=options.step
        )
        with h5py.File(options.truth) as truth:
            label = truth["label"][()]
            center = np.stack([truth["center_y"][()], truth["center_x"][()]], -1)
        found[options.data.name] = score(scan, label, center)
    for seed in options.demo_seeds:
        scan, truth = heterojunction(seed=seed)
        found[f"demonstration seed {seed}"] = score(scan, truth.label, truth.center)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
