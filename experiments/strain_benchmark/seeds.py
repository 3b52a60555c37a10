"""Slope of estimate on truth and error over the bound on several polycrystals: one has only 25 strains.

python experiments/strain_benchmark/seeds.py         # writes seeds.json; about 6 minutes on 2 cores
"""

import argparse
import json
from pathlib import Path

import numpy as np
from run import bounds, measure, plain, summary

from jax4dstem import use_all_cores
from jax4dstem.simulate import polycrystal

HERE = Path(__file__).parent
FIGURES = ("slope", "rms_over_bound", "bias", "coverage_95", "wrong_lattice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.45, 0.6, 0.7])
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104])
    parser.add_argument("--out", type=Path, default=HERE / "seeds.json")
    options = parser.parse_args()
    use_all_cores()
    results = {}
    for level in options.levels:
        found = []
        for seed in options.seeds:
            made, truth = polycrystal((options.size,) * 2, (200, 200), background=level, seed=seed)
            strain, pooled, _ = measure(made, truth)
            found.append(summary(strain, pooled, truth, bounds(truth, (200, 200))))
            print(level, seed, plain({name: found[-1][name] for name in FIGURES}), flush=True)
        results[f"{level:g}"] = {
            name: {
                "mean": np.mean([one[name] for one in found], axis=0),
                "standard_error": np.std([one[name] for one in found], axis=0, ddof=1)
                / np.sqrt(len(found)),
            }
            for name in FIGURES
        }
    result = plain({"size": options.size, "seeds": options.seeds, "levels": results})
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
