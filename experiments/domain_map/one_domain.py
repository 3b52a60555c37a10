"""Scans of one domain: a single crystal with a field of strain, and vacuum; the map is to say one.

python experiments/domain_map/one_domain.py --seeds 11 12 13 14 15
"""

import argparse
import json
from pathlib import Path

import numpy as np
from prepared import prepared_of

from jax4dstem import Dataset, map_domains, use_all_cores
from jax4dstem.simulate import polycrystal, simulate_scan

HERE = Path(__file__).parent
SCAN, DETECTOR, GRADIENT = (32, 32), (64, 64), 5e-4


def crystal(dose, seed):
    scan, _ = polycrystal(
        SCAN, DETECTOR, n_grains=1, background=0.25, dose=dose, gradient=GRADIENT, seed=seed
    )
    return scan


def vacuum(dose, seed):
    _, truth = polycrystal(SCAN, DETECTOR, n_grains=1, dose=dose, seed=seed)
    beam = np.array(truth.parameters.intensities)
    beam[..., 1:] = 0
    parameters = truth.parameters._replace(intensities=beam)
    return Dataset.from_array(simulate_scan(parameters, truth.optics, DETECTOR, seed=seed))


def domains(scan):
    found = map_domains(prepared_of(scan))
    return len(found.size), int(found.unusual.sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14, 15])
    parser.add_argument("--doses", type=float, nargs="+", default=[1e5, 3e3, 3e2])
    parser.add_argument("--out", type=Path, default=HERE / "one_domain.json")
    options = parser.parse_args()
    use_all_cores()
    table = {}
    for make in (crystal, vacuum):
        for dose in options.doses:
            number, unusual = zip(
                *(domains(make(dose, seed)) for seed in options.seeds), strict=True
            )
            table[f"{make.__name__}, {dose:g} electrons"] = {
                "seeds": options.seeds,
                "domains": number,
                "unusual": unusual,
            }
            print(make.__name__, dose, number, unusual, flush=True)
            options.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
