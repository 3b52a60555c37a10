"""Speed and accuracy of the strain measurement, with nothing given, beside py4DSTEM's on the same file.

    python experiments/strain_benchmark/speed.py --peer "PYTHON SCRIPT"     # writes speed.json

PYTHON SCRIPT is an interpreter with py4DSTEM and a script called with (input, output, --json report); without
it only our own figures are measured. "first" includes compilation and learning the model, "again" the learning
only, "fit" is the pass over all patterns alone, before and after the peer's runs. Errors are mean absolute errors of e_xx.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
from run import beam_centers, errors, measure, save

from jax4dstem import Dataset, map_patterns, open_dataset, use_all_cores
from jax4dstem.lattice import learn_lattice, sample_scan
from jax4dstem.simulate import PolycrystalTruth, polycrystal
from jax4dstem.strain import StrainMap

HERE = Path(__file__).parent


def fit_rates(dataset: Dataset, vectors: np.ndarray, others: Callable[[], object]) -> list[float]:
    """Patterns searched and fitted per second, compiled: medians of five before and after ``others``."""
    center, radius = beam_centers(dataset)
    sample = sample_scan(dataset)
    learned = learn_lattice(sample, sample.of(center), radius, vectors)

    def fit() -> None:
        map_patterns(learned.measure, dataset, learned.setup, per_position=(center,))

    fit()
    before = statistics.median(timeit.repeat(fit, number=1, repeat=5))
    others()
    after = statistics.median(timeit.repeat(fit, number=1, repeat=5))
    return [round(dataset.n_patterns / each) for each in (before, after)]


def mean_error(strain: StrainMap, truth: PolycrystalTruth, where: np.ndarray) -> float:
    return float(np.nanmean(np.abs(errors(strain, truth)[where][:, 0])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--level", type=float, default=0.25)
    parser.add_argument("--peer", help="'PYTHON SCRIPT' that measures the same file with py4DSTEM")
    parser.add_argument("--peer-runs", type=int, default=3)
    parser.add_argument("--peer-options", default="", help="more options of that script")
    parser.add_argument("--out", type=Path, default=HERE / "speed.json")
    options = parser.parse_args()
    use_all_cores()
    made, truth = polycrystal((options.size,) * 2, (200, 200), background=options.level, seed=101)
    n = options.size**2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        save(path, made, truth, options.level)
        dataset = open_dataset(path)
        first = measure(dataset, truth)[2]
        strain, pooled, again = measure(dataset, truth)
        peers: list[dict] = []

        def run_peer() -> None:
            for _ in range(options.peer_runs if options.peer else 0):
                report = Path(folder) / "peer.json"
                command = [*options.peer.split(), str(path), str(Path(folder) / "peer.h5")]
                command += ["--json", str(report), *options.peer_options.split()]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                peers.append(json.loads(report.read_text()))

        result = {
            "scan": [options.size] * 2,
            "cores": os.cpu_count(),
            "first_per_s": round(n / first),
            "again_per_s": round(n / again),
            "fit_per_s": fit_rates(dataset, truth.vectors, run_peer),
            "error": {
                "interior": mean_error(strain, truth, truth.interior),
                "all": mean_error(strain, truth, strain.ok),
                "pooled_all": mean_error(pooled, truth, strain.ok),
            },
        }
        if peers:
            result["peer_per_s"] = [round(peer["patterns_per_s"]["pipeline"]) for peer in peers]
            ours, theirs = (np.mean(result[name]) for name in ("fit_per_s", "peer_per_s"))
            result["ratio"] = round(ours / theirs, 1)
            result["peer_error"] = {
                region: peers[0]["mae"][region]["exx"] for region in ("interior", "all")
            }
    print(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
