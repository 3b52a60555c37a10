"""How far confidence of domains and mixtures can be trusted, pooled over scans.

python experiments/domain_map/reliability.py --seeds 11 12 13 14 15

Positions of polycrystals, few of them sure at low doses. A position is right where its grain is the domain's main one, or the domain is the grain's main one: grains that
are joined or parted as a whole are counted by other experiments. Mixtures are positions where the main grain has 30 to 70 % of the probe; false ones have more than 99 %.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from prepared import prepared_of

from jax4dstem import map_domains, use_all_cores
from jax4dstem.simulate import polycrystal

HERE = Path(__file__).parent
SCAN, DETECTOR, BACKGROUND = (48, 48), (64, 64), 0.25
EDGES = [0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]
ENOUGH = 400  # positions of a bin that is judged
EVEN, PURE = 0.7, 0.99  # share of the main grain: at most of a mixture, at least of what is none


def mapped(grains, dose, seed):
    """Confidence, whether it is right, whether a second domain is said, and the share of the main grain."""
    scan, truth = polycrystal(
        SCAN, DETECTOR, n_grains=grains, background=BACKGROUND, dose=dose, seed=seed
    )
    found = map_domains(prepared_of(scan))
    both = np.zeros((len(found.size), grains), int)
    np.add.at(both, (found.labels, truth.grain), 1)
    main_grain, main_domain = both.argmax(axis=1), both.argmax(axis=0)
    right = (main_grain[found.labels] == truth.grain) | (main_domain[truth.grain] == found.labels)
    return np.stack([found.confidence, right, found.second >= 0, truth.purity]).reshape(4, -1)


def judged(confidence, right, second, share):
    """Bins of confidence, and mixtures."""
    which = np.clip(np.digitize(confidence, EDGES) - 1, 0, len(EDGES) - 2)
    bins = []
    for n, low in enumerate(EDGES[:-1]):
        own = which == n
        if own.any():
            said, true = float(confidence[own].mean()), float(right[own].mean())
            bins.append(
                {"from": low, "positions": int(own.sum()), "said": round(said, 3), "right": round(true, 3)}
            )  # fmt: skip
    even, pure = share <= EVEN, share >= PURE
    return {
        "bins": bins,
        "worst": max(
            (abs(b["said"] - b["right"]) for b in bins if b["positions"] >= ENOUGH), default=None
        ),
        "mixtures": int(even.sum()),
        "mixtures_found": round(float(second[even].mean()), 3),
        "false_mixtures": round(float(second[pure].mean()), 4),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--doses", type=float, nargs="+", default=[1e5, 3e4, 1e4])
    parser.add_argument("--grains", type=int, default=4)
    parser.add_argument("--out", type=Path, default=HERE / "reliability.json")
    options = parser.parse_args()
    use_all_cores()
    table, every = {"seeds": options.seeds}, []
    for dose in options.doses:
        of_dose = [mapped(options.grains, dose, seed) for seed in options.seeds]
        every += of_dose
        for name, parts in ((f"{dose:g} electrons", of_dose), ("all", every)):
            table[name] = judged(*np.concatenate(parts, axis=1))
            print(name, table[name], flush=True)
        options.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
