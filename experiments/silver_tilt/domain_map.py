"""Silver tilt series by the defaults: `map_domains` is told nothing, neither features nor clusterer nor how many orientations there are.

    python experiments/silver_tilt/domain_map.py --data ag_tilt.h5

The disturbed patterns of `run.py`, five seeds that nothing was chosen by (10 to 34 were looked at), 3,000 and 300 electrons per pattern; adjusted Rand index. Writes domain_map.json.
"""

import argparse
import json

import h5py
import numpy as np
from run import HERE, RANGES, TRUTH, make_scan
from sklearn.metrics import adjusted_rand_score

from jax4dstem import align_scan, map_domains, prepare_patterns, survey_scan, use_all_cores


def found(patterns: np.ndarray, dose: float, seed: int) -> tuple[float, int]:
    """Index and number of domains."""
    scan, truth = make_scan(patterns, True, dose, seed)
    survey = survey_scan(scan)
    domains = map_domains(prepare_patterns(scan, survey, align_scan(scan, survey)))
    index = adjusted_rand_score(np.ravel(truth), domains.labels.ravel())
    return round(float(index), 3), len(domains.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[35, 36, 37, 38, 39])
    options = parser.parse_args()
    use_all_cores()
    with h5py.File(options.data) as file:
        clean = file["patterns"][...].reshape(len(RANGES), len(TRUTH), 128, 128)
    table = {}
    for dose in (3e3, 300.0):
        for tilt, patterns in zip(RANGES, clean, strict=True):
            each = [found(patterns, dose, seed) for seed in options.seeds]
            index, number = (list(column) for column in zip(*each, strict=True))
            table[f"{dose:g} electrons, {tilt} degrees"] = {"ari": index, "domains": number}
            print(dose, tilt, index, number, flush=True)
            (HERE / "domain_map.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
